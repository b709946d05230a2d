"""A small decoder whose blocks are not those of any class of transformers, and a method for it."""

from own_model.method import DownOnly
from own_model.model import ParallelConfig, ParallelForCausalLM, build, write_folder

__all__ = ["DownOnly", "ParallelConfig", "ParallelForCausalLM", "build", "write_folder"]
