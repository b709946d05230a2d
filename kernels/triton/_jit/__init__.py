"""The kernels themselves.  Importing one of these modules imports triton, which takes a while.

They share a layout.  Every tile has the dimensions

    [ROWS, UNROLL, LANES, BLOCK]    rows of x; channels a thread takes one after another;
                                    channels side by side; outputs

from the first load on, with ones where an operand does not extend, so that Triton gives all of
them one layout and moves nothing through shared memory within a loop: a warp takes the outputs
of a channel, 16 bytes per thread, or nothing of an inactive one.

``target.dtype.element_ty`` is the dtype of the tensor that ``target`` points to.  Offsets into
weights are 64-bit: a vocabulary's weights may have more than 2^31 elements.
"""
