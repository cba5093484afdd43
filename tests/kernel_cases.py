"""A convolution and a product, whose kernels are chosen."""

PRUNED = (-2, -1, 1, 2)
TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 4, 8, 8] x) => (float[N, 32] y) {
  [conv] c = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
  [relu] r = Relu (c)
  [flat] f = Flatten (r)
  [fc] y = Gemm <transB = 1> (f, w2)
}
"""
SHAPES = {"w1": (8, 4, 3, 3), "b1": (8,), "w2": (32, 512)}
