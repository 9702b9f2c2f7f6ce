//! The names that generated code may use. What is not here makes the code count as dangerous.

/// Whether a function of this name under [`FUNCTIONS`], or a method of a local variable, only calculates with tensors.
/// An underscore at the end means in place.
pub fn is_operation(name: &str) -> bool {
    let name = name.strip_suffix('_').unwrap_or(name);
    OPERATIONS
        .split_ascii_whitespace()
        .any(|known| known == name)
}

/// Whether a dotted path that starts with `torch` is a function that only calculates.
pub fn is_function(path: &str) -> bool {
    let is_below = |start: &str| {
        let rest = path.strip_prefix(start);
        rest.is_some_and(|rest| match rest.split_once('.') {
            None => is_operation(rest),
            // The overload of an operator, as in `torch.ops.aten.add.Tensor`.
            Some((name, overload)) => {
                start.starts_with("torch.ops.")
                    && is_operation(name)
                    && !overload.starts_with('_')
                    && !overload.contains('.')
            }
        })
    };
    FUNCTIONS.iter().any(|start| is_below(start)) || OTHER_FUNCTIONS.contains(&path)
}

/// How the path of a function starts, before its name.
const FUNCTIONS: &[&str] = &[
    "torch.",
    "torch.Tensor.",
    "torch._C._fft.fft_",
    "torch._C._linalg.linalg_",
    "torch._C._nn.",
    "torch._C._special.special_",
    "torch.fft.",
    "torch.functional.",
    "torch.linalg.",
    "torch.nn.functional.",
    "torch.ops.aten.",
    "torch.ops.aten.fft_",
    "torch.ops.aten.linalg_",
    "torch.ops.aten.special_",
    "torch.ops.quantized.",
    "torch.special.",
];

const OTHER_FUNCTIONS: &[&str] = &[
    "torch.Size",
    "torch._C._set_grad_enabled",
    "torch._assert",
    "torch.device",
    "torch.fx._symbolic_trace._assert_is_none",
    "torch.ops.aten._adaptive_avg_pool2d.default",
    "torch.ops.aten._log_softmax.default",
    "torch.ops.aten._native_batch_norm_legit.default",
    "torch.ops.aten._native_batch_norm_legit_no_training.default",
    "torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default",
    "torch.ops.aten._softmax.default",
    "torch.ops.aten._to_copy.default",
    "torch.ops.aten._unsafe_view.default",
    "torch.ops.aten.copy_.default",
    "torch.ops.aten.sym_size.int",
];

/// What is a value under `torch`, and no function, class or module.
pub const CONSTANTS: &[&str] = &[
    "bfloat16",
    "bool",
    "channels_last",
    "channels_last_3d",
    "complex128",
    "complex32",
    "complex64",
    "contiguous_format",
    "double",
    "float",
    "float16",
    "float32",
    "float64",
    "half",
    "int",
    "int16",
    "int32",
    "int64",
    "int8",
    "long",
    "per_channel_affine",
    "per_tensor_affine",
    "preserve_format",
    "qint32",
    "qint8",
    "quint8",
    "short",
    "sparse_coo",
    "strided",
    "uint8",
];

/// Names that always stand for the same value.
pub const VALUES: &[&str] = &["Ellipsis", "False", "None", "True", "inf", "nan"];

/// Functions of Python, and `torch.device`, that are called under their bare name.
pub const BUILTINS: &[&str] = &[
    "abs", "bool", "complex", "device", "divmod", "float", "int", "len", "max", "min", "pow",
    "range", "round", "slice", "sum",
];

/// What an annotation may name, beside what is imported.
pub const TYPES: &[&str] = &[
    "None", "NoneType", "bool", "complex", "dict", "float", "int", "list", "str", "tuple", "device",
];

/// Attributes of tensors, and of the tuples with names that torch's functions give.
pub const ATTRIBUTES: &[&str] = &[
    "H",
    "L",
    "LU",
    "Q",
    "R",
    "S",
    "T",
    "U",
    "V",
    "Vh",
    "data",
    "device",
    "dtype",
    "eigenvalues",
    "eigenvectors",
    "grad",
    "imag",
    "indices",
    "is_cuda",
    "is_quantized",
    "is_sparse",
    "itemsize",
    "layout",
    "mH",
    "mT",
    "ndim",
    "nbytes",
    "real",
    "requires_grad",
    "shape",
    "values",
];

/// Imports that every generated code has.
pub const IMPORTS: &[&str] = &[
    "NoneType = type(None)",
    "from math import inf",
    "from math import nan",
    "from torch import device",
    "import torch",
    "import torch.fx._pytree as fx_pytree",
    "import torch.utils._pytree as pytree",
];

/// Builtin functions and types that generated code imports under their own names.
pub const IMPORTED_BUILTINS: &[&str] = &[
    "abs", "bool", "complex", "dict", "divmod", "float", "getattr", "int", "len", "list", "max",
    "min", "pow", "range", "round", "slice", "str", "sum", "tuple",
];

/// Operators between two values.
pub const OPERATORS: &[&str] = &[
    "!=", "%", "&", "*", "**", "+", "-", "/", "//", "<", "<<", "<=", "==", ">", ">=", ">>", "@",
    "^", "|",
];

/// Operators that change a variable in place.
pub const ASSIGNMENTS: &[&str] = &[
    "%=", "&=", "**=", "*=", "+=", "-=", "//=", "/=", "<<=", ">>=", "@=", "^=", "|=",
];

/// Functions of torch, torch.nn.functional, fft, linalg and special, and methods of tensors, that read no files, run
/// no code that they are given and change no setting.
pub const OPERATIONS: &str = "\
    abs absolute acos acosh adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d \
    adaptive_max_pool1d_with_indices adaptive_max_pool2d adaptive_max_pool2d_with_indices adaptive_max_pool3d add \
    addbmm addcdiv addcmul addmm addmv addr adjoint affine_grid affine_grid_generator alias all allclose \
    alpha_dropout amax amin aminmax angle any arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax \
    argmin argsort argwhere as_strided as_strided_scatter as_tensor asin asinh atan atan2 atanh atleast_1d \
    atleast_2d atleast_3d avg_pool1d avg_pool2d avg_pool3d baddbmm bartlett_window batch_norm batch_norm_elemt \
    bernoulli bfloat16 bilinear binary_cross_entropy binary_cross_entropy_with_logits bincount binomial \
    bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor blackman_window \
    block_diag bmm bool broadcast_shapes broadcast_tensors broadcast_to bucketize byte cartesian_prod cat cauchy \
    ccol_indices cdist ceil celu chain_matmul chalf channel_shuffle char cholesky cholesky_inverse cholesky_solve \
    chunk clamp clamp_max clamp_min clip clone coalesce col2im col_indices column_stack combinations complex \
    concat concatenate conj conj_physical constant_pad_nd contiguous conv1d conv2d conv3d conv_depthwise3d \
    conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d convolution copysign corrcoef cos cosh \
    cosine_embedding_loss cosine_similarity count_nonzero cov cpu cross cross_entropy cross_entropy_loss \
    crow_indices ctc_loss cuda cummax cummin cumprod cumsum cumulative_trapezoid deg2rad dense_dim dequantize det \
    detach diag diag_embed diagflat diagonal diagonal_scatter diff digamma dim dist div divide dot double dropout \
    dropout1d dropout2d dropout3d dsplit dstack eigh eigvals eigvalsh einsum element_size elu embedding \
    embedding_bag empty empty_like empty_permuted empty_quantized empty_strided entr eq equal erf erfc erfcx \
    erfinv exp exp2 expand expand_as expit expm1 exponential eye fake_quantize_per_channel_affine \
    fake_quantize_per_tensor_affine feature_alpha_dropout feature_dropout fft fft2 fftfreq fftn fftshift fill \
    fill_diagonal fix flatten flatten_dense_tensors flip fliplr flipud float float_power floor floor_divide fmax \
    fmin fmod fold frac fractional_max_pool2d fractional_max_pool3d frexp frobenius_norm full full_like \
    fused_moving_avg_obs_fake_quant gammaln gather gaussian_nll_loss gcd ge gelu geometric geqrf ger get_device \
    glu gradient greater greater_equal grid_sample grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru \
    gru_cell gt gumbel_softmax half hamming_window hann_window hardshrink hardsigmoid hardswish hardtanh \
    hash_tensor heaviside hfft hinge_embedding_loss histc histogram histogramdd hsplit hspmm hstack huber_loss \
    hypot i0 i0e i1 i1e ifft ifft2 ifftn ifftshift igamma igammac ihfft im2col imag index index_add index_copy \
    index_fill index_put index_reduce index_select indices inner instance_norm int int_repr interpolate inv \
    inverse irfft irfft2 irfftn is_coalesced is_complex is_conj is_contiguous is_floating_point is_inference \
    is_neg is_nonzero is_pinned is_same_size is_signed is_tensor isclose isfinite isin isinf isnan isneginf \
    isposinf isreal istft item kaiser_window kl_div kron kthvalue l1_loss layer_norm lcm ldexp le leaky_relu lerp \
    less less_equal lgamma lift_fresh lift_fresh_copy linear linspace local_response_norm log log10 log1p log2 \
    log_ndtr log_normal log_sigmoid log_softmax logaddexp logaddexp2 logcumsumexp logdet logical_and logical_not \
    logical_or logical_xor logit logsigmoid logspace logsumexp long lp_pool1d lp_pool2d lp_pool3d lstm lstm_cell \
    lstsq lt lu lu_solve lu_unpack margin_ranking_loss masked_fill masked_scatter masked_select matmul matrix_exp \
    matrix_norm matrix_power matrix_rank max max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices \
    max_pool3d max_pool3d_with_indices max_unpool1d max_unpool2d max_unpool3d maximum mean median meshgrid min \
    minimum mish mm mode moveaxis movedim mse_loss msort mul multi_dot multi_head_attention_forward \
    multi_margin_loss multigammaln multilabel_margin_loss multilabel_soft_margin_loss multinomial multiply mv \
    mvlgamma nan_to_num nanmean nanmedian nanquantile nansum narrow native_batch_norm native_channel_shuffle \
    native_dropout native_group_norm native_layer_norm native_norm ndimension ndtr ndtri ne neg negative nelement \
    new_empty new_empty_strided new_full new_ones new_tensor new_zeros nextafter nll_loss nll_loss2d nll_loss_nd \
    nonzero nonzero_static norm norm_except_dim normal normalize not_equal nuclear_norm numel one_hot ones \
    ones_like orgqr ormqr outer pad pad_sequence pairwise_distance pdist permute pin_memory pinv pinverse \
    pixel_shuffle pixel_unshuffle poisson poisson_nll_loss polar polygamma positive pow prelu prod promote_types \
    psi put qr qscheme quantile quantize_per_channel quantize_per_tensor quantize_per_tensor_dynamic \
    quantized_batch_norm quantized_gru quantized_gru_cell quantized_lstm quantized_lstm_cell quantized_max_pool1d \
    quantized_max_pool2d quantized_max_pool3d quantized_rnn_relu_cell quantized_rnn_tanh_cell rad2deg rand \
    rand_like randint randint_like randn randn_like random randperm range ravel real reciprocal reflection_pad1d \
    reflection_pad2d reflection_pad3d relu relu6 remainder renorm repeat repeat_interleave replication_pad1d \
    replication_pad2d replication_pad3d reshape reshape_as resolve_conj resolve_neg rfft rfft2 rfftfreq rfftn \
    rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell roll rot90 round row_indices row_stack rrelu \
    rrelu_with_noise rsqrt rsub scalar_tensor scaled_dot_product_attention scatter scatter_add scatter_reduce \
    searchsorted segment_reduce select select_scatter selu sgn short sigmoid sign signbit silu sin sinc sinh size \
    slice_inverse slice_scatter slogdet slow_conv3d slow_conv_dilated2d slow_conv_dilated3d slow_conv_transpose2d \
    slow_conv_transpose3d smm smooth_l1_loss soft_margin_loss softmax softmin softplus softshrink softsign solve \
    solve_triangular sort sparse_bsc_tensor sparse_bsr_tensor sparse_compressed_tensor sparse_coo_tensor \
    sparse_csc_tensor sparse_csr_tensor sparse_dim sparse_mask split split_with_sizes sqrt square squeeze sspaddmm \
    stack std std_mean stft storage_offset stride sub subtract sum sum_to_size svd svdvals swapaxes swapdims symeig t take \
    take_along_dim tan tanh tanhshrink tensor tensor_split tensordot thnn_conv2d threshold tile to to_dense \
    to_padded_tensor to_sparse to_sparse_bsc to_sparse_bsr to_sparse_csc to_sparse_csr tolist topk trace transpose \
    trapezoid trapz triangular_solve tril tril_indices triplet_margin_loss triu triu_indices true_divide trunc \
    type type_as unbind unflatten unflatten_dense_tensors unfold uniform unique unique_consecutive unravel_index \
    unsqueeze upsample upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d \
    upsample_nearest2d upsample_nearest3d upsample_trilinear3d values vander var var_mean vdot vecdot vector_norm \
    view view_as view_as_complex view_as_real vsplit vstack where xlog1py xlogy zero zeros zeros_like zeta";
