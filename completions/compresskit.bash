# bash completion for compresskit: source this file, or put it into /etc/bash_completion.d
_compresskit() {
    local word="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"
    case "${COMP_WORDS[1]}" in
    prune)
        case "$previous" in
            --criterion) COMPREPLY=($(compgen -W "l1 l2 l1-first l2-first bn-scale taylor fpgm lamp hessian random uniform" -- "$word")); return ;;
            --scope) COMPREPLY=($(compgen -W "global layer" -- "$word")); return ;;
            --normalize) COMPREPLY=($(compgen -W "none mean max" -- "$word")); return ;;
            --optimizer) COMPREPLY=($(compgen -W "sgd adamw" -- "$word")); return ;;
            --schedule) COMPREPLY=($(compgen -W "one-cycle cosine multistep constant" -- "$word")); return ;;
            --augment) COMPREPLY=($(compgen -W "auto none crop-flip" -- "$word")); return ;;
            --flops|--params|--size|--sparsity|--pattern|--max-drop|--data|--mean|--std|--label-column|-o|--output|--plot|--report|--floor|--steps|--round-to|--epochs|--lr|--batch-size|--label-smoothing|--distill|--checkpoint|--checkpoint-minutes|--arch|--input|--device|--seed|--max-bytes|-T|--threads|--config) return ;;
        esac
        [[ $word == -* ]] && COMPREPLY=($(compgen -W "--flops --params --size --sparsity --pattern --max-drop --data --mean --std --label-column -o --output -c --stdout --plot -f --force --json --report --criterion --scope --normalize --floor --steps --round-to --epochs --lr --batch-size --optimizer --schedule --label-smoothing --augment --distill --checkpoint --checkpoint-minutes --resume --arch --input --trust --device --seed --dry-run --max-bytes -T --threads --config -v --verbose -q --quiet --no-progress --no-color --traceback -h --help" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "prune --version --help" -- "$word")) ;;
    esac
}
complete -o default -F _compresskit compresskit
