"""Weight compression that activation sparsity and spontaneous neurons are combined with.

======================= =======================================================================
name                    what it does to the matrices of the decoder blocks
======================= =======================================================================
``loaded``              nothing
``float32``             nothing, but the arithmetic of the whole model is in that dtype; so with
                        ``bfloat16``, which rounds what was loaded in a finer one
``int8``                rounds to nearest, one scale per output
``int4``, ``int4-G``    rounds to nearest in groups of 64 (G) outputs of one input channel
``gptq4``, ``gptq4-G``  the same format, errors made up for as calibration says (GPTQ)
``magnitude-P``         zeroes a share P, ``magnitude-N:M`` all but N of M inputs: smallest |W|
``wanda-...``           the same: smallest |W| times the norm of the input (Wanda)
``sparsegpt-...``       the same: least damage, and the rest makes up for it (SparseGPT)
======================= =======================================================================

Embeddings and output head stay as they were loaded, tied or not; a cast has its own copies.  The
result is an ordinary model: every weight has the value that its stored form means, in the dtype
of the model.

These are small references of our own, because no maintained library fits (tried with
torch 2.13 on a CPU, transformers 5.23 and Python 3.11):

- torchao 0.18 installs alone, but its GPTQ runs on CUDA only and needs ``mslk``, its Wanda compares
  weights of a whole layer and not of an output, as the paper has it, it has no SparseGPT, and
  the product of its ``Int8Tensor`` with a vector is not implemented: nothing can be folded.
- llm-compressor 0.14 has GPTQ, Wanda and SparseGPT, and replaces transformers by 5.17.
- GPTQModel 7.7 replaces torch by 2.15 for CUDA.
- auto-round 0.16 brings datasets, pandas and pyarrow, and is another method.
- neural-compressor 3.10 dropped pruning; optimum-quanto 0.2 has neither GPTQ nor pruning.

All of them group four-bit weights along the input channels.  The kernels here skip input
channels, so that groups must not cross them: ``reference/quantization.py`` defines the only format.
"""
