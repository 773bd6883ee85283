# bash completion for compresskit: source this file, or put it into /etc/bash_completion.d
_compresskit() {
    local word="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"
    case "${COMP_WORDS[1]}" in
    prune)
        case "$previous" in
            --method) COMPREPLY=($(compgen -W "auto classic l1l2 3sp prospr snip grasp synflow force iter-snip magnitude random" -- "$word")); return ;;
            --criterion) COMPREPLY=($(compgen -W "auto l1 l2 l1-first l2-first bn-scale taylor fpgm lamp hessian reconstruction random uniform" -- "$word")); return ;;
            --scope) COMPREPLY=($(compgen -W "global layer" -- "$word")); return ;;
            --normalize) COMPREPLY=($(compgen -W "none mean max" -- "$word")); return ;;
            --recipe) COMPREPLY=($(compgen -W "thesis thesis-imagenet short" -- "$word")); return ;;
            --optimizer) COMPREPLY=($(compgen -W "sgd adamw" -- "$word")); return ;;
            --schedule) COMPREPLY=($(compgen -W "one-cycle cosine multistep constant" -- "$word")); return ;;
            --augment) COMPREPLY=($(compgen -W "auto none crop-flip" -- "$word")); return ;;
            --curve|--flops|--params|--size|--latency|--sparsity|--pattern|--max-drop|--data|--mean|--std|--label-column|-o|--output|--plot|--report|--blocks|--smoothing|--inner-steps|--floor|--steps|--round-to|--table|--measure-table|--epochs|--lr|--batch-size|--weight-decay|--label-smoothing|--distill|--checkpoint|--checkpoint-minutes|--arch|--input|--device|--seed|--max-bytes|-T|--threads|--config) return ;;
        esac
        [[ $word == -* ]] && COMPREPLY=($(compgen -W "--curve --flops --params --size --latency --sparsity --pattern --max-drop --data --mean --std --label-column -o --output -c --stdout --plot -f --force --json --report --blocks --method --init --compute-aware --smoothing --inner-steps --first-order --rescale --reinit --criterion --scope --normalize --floor --steps --round-to --table --measure-table --recipe --epochs --lr --batch-size --optimizer --weight-decay --schedule --label-smoothing --augment --distill --checkpoint --checkpoint-minutes --resume --arch --input --trust --device --seed --dry-run --max-bytes -T --threads --config -v --verbose -q --quiet --no-progress --no-color --traceback -h --help" -- "$word")) ;;
    quantize)
        case "$previous" in
            --method) COMPREPLY=($(compgen -W "ptq uniform ste dorefa lsq" -- "$word")); return ;;
            --calibration) COMPREPLY=($(compgen -W "mse entropy percentile minmax moving-average" -- "$word")); return ;;
            --rounding) COMPREPLY=($(compgen -W "auto nearest learned" -- "$word")); return ;;
            --equalize) COMPREPLY=($(compgen -W "auto yes no" -- "$word")); return ;;
            --reduce-range) COMPREPLY=($(compgen -W "auto yes no" -- "$word")); return ;;
            --robust-method) COMPREPLY=($(compgen -W "l1 l2 dq none" -- "$word")); return ;;
            --optimizer) COMPREPLY=($(compgen -W "sgd adamw" -- "$word")); return ;;
            --schedule) COMPREPLY=($(compgen -W "one-cycle cosine multistep constant" -- "$word")); return ;;
            --augment) COMPREPLY=($(compgen -W "auto none crop-flip" -- "$word")); return ;;
            --weights|--activations|--edges|--size|--bit-ops|--max-drop|--require-speedup|--sweep|--data|--mean|--std|--label-column|-o|--output|--plot|--report|--samples|--strength|--epochs|--lr|--batch-size|--label-smoothing|--distill|--checkpoint|--checkpoint-minutes|--arch|--input|--device|--seed|--max-bytes|-T|--threads|--config) return ;;
        esac
        [[ $word == -* ]] && COMPREPLY=($(compgen -W "--weights --activations --edges --size --bit-ops --max-drop --require-speedup --robust --sweep --data --mean --std --label-column -o --output -c --stdout --plot -f --force --json --report --method --calibration --samples --rounding --equalize --codebook --sensitivity --reduce-range --robust-method --strength --epochs --lr --batch-size --optimizer --schedule --label-smoothing --augment --distill --checkpoint --checkpoint-minutes --resume --arch --input --trust --device --seed --dry-run --max-bytes -T --threads --config -v --verbose -q --quiet --no-progress --no-color --traceback -h --help" -- "$word")) ;;
    metaprune)
        case "$previous" in
            --scope) COMPREPLY=($(compgen -W "global layer" -- "$word")); return ;;
            --criterion) COMPREPLY=($(compgen -W "l2 l1 l2-first l1-first weights" -- "$word")); return ;;
            --normalize) COMPREPLY=($(compgen -W "none mean max" -- "$word")); return ;;
            --optimizer) COMPREPLY=($(compgen -W "sgd adamw" -- "$word")); return ;;
            --schedule) COMPREPLY=($(compgen -W "one-cycle cosine multistep constant" -- "$word")); return ;;
            --augment) COMPREPLY=($(compgen -W "auto none crop-flip" -- "$word")); return ;;
            --speedup|--flops|--params|--size|--latency|--sparsity|--pattern|--max-drop|--data|--mean|--std|--label-column|-o|--output|--plot|--report|--metanetwork|--initial|--floor|--round-to|--alpha|--scale|--pruner-reg|--layers|--width|--epochs|--lr|--batch-size|--label-smoothing|--distill|--checkpoint|--checkpoint-minutes|--accumulate|--milestones|--tolerance|--tuning|--arch|--input|--device|--seed|--max-bytes|-T|--threads|--config) return ;;
        esac
        [[ $word == -* ]] && COMPREPLY=($(compgen -W "--speedup --flops --params --size --latency --sparsity --pattern --max-drop --data --mean --std --label-column --explain -o --output -c --stdout --plot -f --force --json --report --metanetwork --initial --scope --floor --round-to --train --models --criterion --normalize --alpha --relative --absolute --scale --pruner-reg --layers --width --epochs --lr --batch-size --optimizer --schedule --label-smoothing --augment --distill --checkpoint --checkpoint-minutes --resume --accumulate --milestones --tolerance --tuning --arch --input --trust --device --seed --dry-run --max-bytes -T --threads --config -v --verbose -q --quiet --no-progress --no-color --traceback -h --help" -- "$word")) ;;
    recommend)
        case "$previous" in
            --budget) COMPREPLY=($(compgen -W "small medium full" -- "$word")); return ;;
            --compression|--min-accuracy|--max-error|--size|--latency|--data|--mean|--std|--label-column|--top|-o|--output|--report|--plot|--predictor|--verify|--apply|--models|--trials|-j|--jobs|--cluster|--generate|--epochs|--checkpoint|--checkpoint-minutes|--arch|--input|--seed|--max-bytes|-T|--threads|--config) return ;;
        esac
        [[ $word == -* ]] && COMPREPLY=($(compgen -W "--compression --min-accuracy --max-error --size --latency --data --mean --std --label-column --top -o --output -c --stdout -f --force --json --report --plot --predictor --verify --apply --explain --train --models --budget --trials -j --jobs --cluster --generate --epochs --checkpoint --checkpoint-minutes --resume --arch --input --trust --seed --dry-run --max-bytes -T --threads --config -v --verbose -q --quiet --no-progress --no-color --traceback -h --help" -- "$word")) ;;
    encode)
        case "$previous" in
            --method) COMPREPLY=($(compgen -W "auto coin++ coin" -- "$word")); return ;;
            --modality) COMPREPLY=($(compgen -W "image gray audio volume globe" -- "$word")); return ;;
            --quality|--psnr|--bpp|--kbps|--max-error|--format|--var|-o|--output|--preview|--report|--bits|--effort|--patch|--base|--steps|--latents|--width|--depth|--checkpoint|-j|--jobs|--cluster|-T|--threads|--seed|--max-bytes|--config) return ;;
        esac
        [[ $word == -* ]] && COMPREPLY=($(compgen -W "--quality --psnr --bpp --kbps --max-error --lossless --fallback --format --var -o --output -c --stdout --verify --preview -f --force --json --report --method --bits --effort --patch --base --embed-base --progressive --steps --train-base --modality --latents --width --depth --checkpoint --resume -j --jobs --cluster --dry-run -T --threads --seed --max-bytes --config -v --verbose -q --quiet --no-progress --no-color --traceback -h --help" -- "$word")) ;;
    decode)
        case "$previous" in
            --item|--region|--scale|-o|--output|--format|--report|--base|--max-memory|--max-macs|-T|--threads|--config) return ;;
        esac
        [[ $word == -* ]] && COMPREPLY=($(compgen -W "--item --region --scale --partial -o --output -c --stdout --format -t --test --dry-run --info -f --force --json --report --base --max-memory --max-macs -T --threads --config -v --verbose -q --quiet --no-progress --no-color --traceback -h --help" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "prune quantize metaprune recommend encode decode --version --help" -- "$word")) ;;
    esac
}
complete -o default -F _compresskit compresskit
