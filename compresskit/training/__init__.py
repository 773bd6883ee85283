"""Training and measuring models: one loop for everything that is ever trained here."""

from compresskit.training.config import TrainConfig as TrainConfig
from compresskit.training.evaluation import Evaluation as Evaluation
from compresskit.training.evaluation import evaluate as evaluate
from compresskit.training.evaluation import recalibrate_batchnorm as recalibrate_batchnorm
from compresskit.training.loop import TrainResult as TrainResult
from compresskit.training.loop import train as train
from compresskit.training.objectives import Objective as Objective
from compresskit.training.objectives import distillation as distillation
