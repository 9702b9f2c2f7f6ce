"""Methods that were read, each with what it does. A key is `module.qualified name` of the function.

Whoever adds one has read its source in every version of README.md, with an attacker in mind who chooses all the state.
"""

METACLASSES = {
    "enum.EnumType": "Python's",
    "typing._ProtocolMeta": "only isinstance",
    "typing_extensions._ProtocolMeta": "only isinstance",
    "string._TemplateMetaclass": "compiles the pattern of a class when that is defined",
    "torchvision._utils.StrEnumMeta": "finds a member by its name",
    "accelerate.utils.dataclasses.EnumWithContains": "finds a member by its value",
    "torch._custom_class_base.CustomClassBaseMeta": "only isinstance",
    "torch.utils.data._typing._DataPipeMeta": "checks types of class definitions",
    "torch.utils.data.datapipes._typing._DataPipeMeta": "checks types of class definitions",
    "torch.utils.data.datapipes._typing._IterDataPipeMeta": "wraps methods of class definitions",
}

# Classes written in C that a listed class may have as its base, with the flag of their __setstate__.
NATIVE = {
    "typing.Generic": "s",
    "typing.Protocol": "s",
    "typing_extensions.Protocol": "s",
    "functools.partial": "s",
}

# Bases whose objects are left out altogether.
HARMFUL = {
    "torch.utils.hooks.RemovableHandle": "sets the next number of all handles",
    "torch.fx.graph_module.GraphModule": "compiles the source in its state",
    "torch.fx._lazy_graph_module._LazyGraphModule": "compiles the source in its state",
    "torch._dynamo.eval_frame.OptimizedModule": "calls its backend when it is given state",
    "torch.jit._script.ScriptModule": "made by the compiler of TorchScript",
    "torch.nn.parallel.distributed.DistributedDataParallel": "talks to other processes when it is given state",
    "torch.utils.data.datapipes.datapipe._DataPipeSerializationWrapper": "unpickles the bytes in its state",
    "torch._ops.OpOverload": "looked up in a registry",
    "torch.package.package_importer.PackageImporter": "imports code of an archive",
    "threading.Thread": "starts code",
}

GETATTR = {
    "torch.nn.modules.module.Module.__getattr__": "looks into its three dicts, see the flag m",
    # These classes have a __setstate__, so that nothing is looked up that they do not have.
    "omegaconf.dictconfig.DictConfig.__getattr__": "looks up an item",
    "omegaconf.listconfig.ListConfig.__getattr__": "looks up an item",
    "omegaconf.tupleconfig.TupleConfig.__getattr__": "looks up an item",
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.ActivationWrapper.__getattr__": "Module's, and the"
    " wrapped module's",
}

def methods(flag, module, classes, names="__hash__ __eq__"):
    """An entry for each of some methods of some classes."""
    return {f"{module}.{cls}.{name}": flag for cls in classes.split() for name in names.split()}


# __hash__ and __eq__ of what may be a key of a dict: `s` when they hash and compare the fields themselves, `t` when
# they walk over them or may compare what has no hash.
COMPARED = {
    **methods("s", "collections", "UserString"),
    **methods("s", "uuid", "UUID"),
    **methods("t", "inspect", "Parameter Signature"),
    **methods("s", "omegaconf.base", "UnionNode"),
    **methods("s", "omegaconf.nodes", "ValueNode AnyNode FloatNode"),
    **methods("s", "torch.distributed.remote_device", "_remote_device"),
    **methods("t", "torch.distributed._shard.metadata", "ShardMetadata"),
    **methods("t", "torch.distributed.device_mesh", "DeviceMesh"),
    **methods("t", "torch.distributed.tensor._dtensor_spec", "DTensorSpec"),
    **methods("t", "torch.distributed._tensor.placement_types", "DTensorSpec"),
    **methods("s", "torch.distributed._tensor.placement_types", "Shard Replicate Partial"),
    # The setattr of TorchVersion's comparisons: parse both as versions.
    "torch.torch_version.<lambda>": "s",
}

NEW = {
    "typing.Generic.__new__": "n",
    "typing.Protocol.__new__": "n",
    "typing_extensions.Protocol.__new__": "n",
    # Look at the types of their arguments, and keep them.
    "torch.ao.quantization.qconfig.QConfig.__new__": "N",
    "torch.ao.quantization.fx._equalize.EqualizationQConfig.__new__": "N",
    "torch.nn.utils.rnn.PackedSequence.__new__": "N",
    "torch.ao.quantization.qconfig.QConfigDynamic.__new__": "N",
    "torch.quantization.qconfig.QConfig.__new__": "N",
}

SETSTATE = {
    # Stores, and fills in what older versions did not have. The flag m says what Module.__setattr__ looks into.
    "torch.nn.modules.module.Module.__setstate__": "s",
    "torch.nn.modules.pooling.AvgPool3d.__setstate__": "s",
    "torch.nn.modules.upsampling.Upsample.__setstate__": "s",
    "torch.nn.modules.activation.MultiheadAttention.__setstate__": "s",
    "torch.nn.modules.activation.Softmin.__setstate__": "s",
    "torch.nn.modules.activation.Softmax.__setstate__": "s",
    "torch.nn.modules.activation.LogSoftmax.__setstate__": "s",
    "torch.nn.modules.conv._ConvNd.__setstate__": "s",
    "torch.nn.modules.transformer.TransformerEncoderLayer.__setstate__": "s",
    "torch.nn.modules.transformer.TransformerDecoderLayer.__setstate__": "s",
    "torch.amp.grad_scaler.GradScaler.__setstate__": "s",
    "torch.cuda.amp.grad_scaler.GradScaler.__setstate__": "s",
    "torch.ao.pruning.sparsifier.base_sparsifier.BaseSparsifier.__setstate__": "s",
    "numpy.polynomial._polybase.ABCPolyBase.__setstate__": "s",
    "torch.autograd.graph._MultiHandle.__setstate__": "s",
    "torch.fx.proxy.Attribute.__setstate__": "s",
    "scipy.sparse._coo.coo_matrix.__setstate__": "s",
    "omegaconf.base.Node.__setstate__": "s",
    # Reads and sets three attributes of `_metadata`, and makes a Dict[...] or List[...] of them.
    # Compares what is in the metadata.
    "omegaconf.basecontainer.BaseContainer.__setstate__": "t",
    # Read what is in the state, in lists and dicts.
    "torch.nn.modules.module._WrappedHook.__setstate__": "t",
    "torch.nn.modules.rnn.RNNBase.__setstate__": "t",
    "torch.distributed._shard.checkpoint.metadata.TensorProperties.__setstate__": "t",
    "torch.distributed._sharded_tensor.metadata.TensorProperties.__setstate__": "t",
    # Pack weights into the operators' own form.
    "torch.ao.nn.sparse.quantized.linear.LinearPackedParams.__setstate__": "t",
    "torch.ao.nn.quantized.modules.conv._ConvNd.__setstate__": "t",
    "torch.utils._ordered_set.OrderedSet.__setstate__": "t",
    "torch.distributed.checkpoint.metadata.TensorProperties.__setstate__": "t",
    "torch.distributed._shard.sharded_tensor.metadata.TensorProperties.__setstate__": "t",
    "torch.distributed.device_mesh.DeviceMesh.__setstate__": "t",
    "transformers.feature_extraction_utils.BatchFeature.__setstate__": "t",
    "uuid.UUID.__setstate__": "t",
    "inspect.Parameter.__setstate__": "t",
    "inspect.Signature.__setstate__": "t",
    # Fill in defaults of param_groups and make steps tensors.
    **{f"torch.optim.{name}.__setstate__": "t" for name in (
        "optimizer.Optimizer", "_adafactor.Adafactor", "adadelta.Adadelta", "adagrad.Adagrad", "adam.Adam",
        "adamax.Adamax", "adamw.AdamW", "asgd.ASGD", "nadam.NAdam", "radam.RAdam", "rmsprop.RMSprop", "rprop.Rprop",
        "sgd.SGD")},
}

# __setattr__ of classes that have a __setstate__.
SETATTR = {
    "uuid.UUID.__setattr__": "raises; __setstate__ goes around it",
    "torch.nn.modules.module.Module.__setattr__": "see the flag m",
    "torch.distributed.tensor._dtensor_spec.DTensorSpec.__setattr__": "forgets the hash",
    "omegaconf.dictconfig.DictConfig.__setattr__": "sets an item; __setstate__ writes to __dict__",
    "omegaconf.listconfig.ListConfig.__setattr__": "sets an item; __setstate__ writes to __dict__",
    "omegaconf.tupleconfig.TupleConfig.__setattr__": "raises; __setstate__ writes to __dict__",
}

ENUM_METHODS = {
    "transformers.utils.generic.ExplicitEnum._missing_": "raises",
    "lightning_utilities.core.enums.StrEnum.__hash__": "hash of its text",
    "lightning_utilities.core.enums.StrEnum.__eq__": "compares its text",
}

# Methods of objects that other code may run when it is given such an object.
PROTOCOL = {
    **methods("prints and gets its axes", "torch.distributed._mesh_layout", "_FlatLayout _MeshLayout",
              "__iter__ __len__ __getitem__"),
    **methods("prints, and cuts its tensor", "torch.distributed.device_mesh", "DeviceMesh",
              "__getitem__ __repr__ __eq__"),
    **methods("prints and compares its fields", "torch.distributed.tensor._dtensor_spec", "DTensorSpec",
              "__str__ __eq__"),
    **methods("prints and compares its fields", "torch.distributed._tensor.placement_types",
              "DTensorSpec Shard Replicate Partial", "__str__ __repr__ __eq__"),
    # They take two or more arguments, which no listed callable gives to what it gets.
    **methods("compiles", "torch", "_TorchCompileInductorWrapper _TorchCompileWrapper", "__call__ __eq__"),
    **methods("compiles", "torch._dynamo.convert_frame", "CatchErrorsWrapper ConvertFrame ConvertFrameAssert",
              "__call__"),
    **methods("compiles", "torch._dynamo.repro.after_dynamo", "WrapBackendDebug", "__call__"),
    **methods("prints its groups", "torch.optim.optimizer", "Optimizer", "__repr__"),
    **methods("compares its text", "collections", "UserString", "__eq__"),
}

# Modules of which every such method was read: Python's containers, and the layers, whose forward only computes.
READ_BASES = ("_collections_abc", "abc", "collections", "enum", "typing", "torch.nn.modules.", "torch.nn.utils.")


def is_module(cls):
    """Whether it is a torch.nn.Module."""
    return any(full == ("torch.nn.modules.module", "Module") for full in
               ((base.__module__, base.__name__) for base in cls.__mro__))
