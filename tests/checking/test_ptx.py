from __future__ import annotations

from collections import Counter

from pytest_sparsity.checking import ptx

KERNEL = """
.visible .entry gemv(
	.param .u64 .ptr .global .align 1 gemv_param_0,
	.param .u32 gemv_param_1,
	.param .u64 .ptr .global .align 1 gemv_param_2
)
{
	ld.param.b64 	%rd1, [gemv_param_0];
	ld.param.b64 	%rd2, [gemv_param_2];
	mad.wide.s32 	%rd3, %r4, 2, %rd2;
	mov.b64 	%rd4, %rd3;
$L__BB0_3:
	@%p2 ld.global.b16 { %rs1 }, [ %rd1 + 0 ];
	@%p3 ld.global.L1::evict_first.v4.b32 { %r8, %r9, %r10, %r11 }, [ %rd4 + 16 ];
	ld.global.v2.b64 { %rd10, %rd11 }, [ %rd4 ];
	cp.async.cg.shared.global [ %r1 + 0 ], [ %rd4 + 0 ], 0x10, %r3;
	add.s64 	%rd4, %rd4, 64;
	ld.global.f32 	%f1, [%rd9];
	@%p1 bra 	$L__BB0_3;
}
"""


def test_loads_by_argument_and_width() -> None:
    found = ptx.loads(KERNEL, ["x", None, "weight"])
    assert found == {
        "x": Counter({16: 1}),
        "weight": Counter({128: 3}),
        ptx.UNKNOWN: Counter({32: 1}),
    }


def test_products_in_tf32_of_three_generations() -> None:
    for product in (
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 \t{ %r1 }",
        "wgmma.mma_async.sync.aligned.m64n64k8.f32.tf32.tf32 {%r1}",
        "tcgen05.mma.cta_group::1.kind::tf32 [ %r1 + 0 ]",
    ):
        assert ptx.multiplies_tf32(f"{KERNEL}\n\t{product}")
    assert not ptx.multiplies_tf32(f"{KERNEL} mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32")
    assert not ptx.multiplies_tf32(f"{KERNEL} cvt.rna.tf32.f32 %r1, %r2;")


def test_all_is_unknown_if_arguments_are() -> None:
    assert ptx.loads(KERNEL, None) == {ptx.UNKNOWN: Counter({128: 3, 16: 1, 32: 1})}


def test_numbers_point_nowhere() -> None:
    found = ptx.loads(KERNEL, [None, None, "weight"])
    assert set(found) == {"weight", ptx.UNKNOWN}


def test_tiles_that_a_descriptor_names_are_wide_loads() -> None:
    copy = "cp.async.bulk.tensor.2d.{}::bytes [%r1], [%rd1, {{%r2, %r3}}], [%r4];\n"
    load, store = copy.format("shared::cluster.global.mbarrier"), copy.format("global.shared::cta")
    assert ptx.loads(load + store, None) == {ptx.UNKNOWN: Counter({128: 1})}
