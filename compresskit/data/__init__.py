"""Data sets in: many kinds of sources, one form of three checked splits, and batches from them."""

from compresskit.data.batches import batches as batches
from compresskit.data.dataset import UNTESTED as UNTESTED
from compresskit.data.dataset import Dataset as Dataset
from compresskit.data.dataset import Split as Split
from compresskit.data.limits import Limits as Limits
from compresskit.data.load import load_data as load_data
from compresskit.data.load import sample_shape as sample_shape
from compresskit.data.normalization import normalize as normalize
from compresskit.data.reading import Interface as Interface
from compresskit.data.reading import interface as interface
from compresskit.data.reading import read_data as read_data
from compresskit.data.tokens import vocabulary_size as vocabulary_size
