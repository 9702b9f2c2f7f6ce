"""What the frameworks around torch write: cases for list_genuine.py."""

import argparse
import copy
import enum
import os
import pathlib

import torch


class Mode(enum.Enum):
    FAST = "fast"


def lightnings(book, work):
    import lightning.pytorch as pl
    import omegaconf
    from lightning.pytorch.callbacks import (
        EarlyStopping, LearningRateMonitor, ModelCheckpoint, StochasticWeightAveraging, Timer, WeightAveraging)
    from lightning.pytorch.loggers import CSVLogger

    class Regression(pl.LightningModule):
        def __init__(self, config, options, folder, mode, act, kind):
            super().__init__()
            self.save_hyperparameters()
            self.net = torch.nn.Linear(4, 1)

        def training_step(self, batch, _):
            loss = self.net(batch[0]).square().mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
            return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 10)]

        def train_dataloader(self):
            return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(8, 4)), batch_size=4)

    config = omegaconf.OmegaConf.create({"data": {"size": [32, 32], "ref": "${data.size}"}, "lr": 0.01, "none": None, "path": pathlib.Path("a")})
    for callback in (EarlyStopping("loss"), WeightAveraging(avg_fn=torch.optim.swa_utils.get_ema_avg_fn(0.5)), Timer(),
                     StochasticWeightAveraging(0.1, 1), LearningRateMonitor()):
        module = Regression(config, argparse.Namespace(seed=7), pathlib.Path("runs/1"), Mode.FAST, torch.nn.functional.gelu, torch.nn.ReLU)
        folder = work / type(callback).__name__
        saver = ModelCheckpoint(folder, "run", "loss", every_n_train_steps=2)
        trainer = pl.Trainer(accelerator="cpu", devices=1, max_steps=2, logger=CSVLogger(work / "csv"), callbacks=[callback, saver],
                             enable_progress_bar=False, enable_model_summary=False)
        trainer.fit(module)
        book.file("lightning", f"checkpoint with {type(callback).__name__}", saver.best_model_path)


def omegaconfs(book, _):
    import omegaconf
    from dataclasses import dataclass, field
    from typing import Any, Dict, List, Optional, Union

    @dataclass
    class Inner:
        x: int = 1

    @dataclass
    class Structured:
        lr: float = 0.1
        name: Optional[str] = None
        many: List[int] = field(default_factory=list)
        table: Dict[str, Inner] = field(default_factory=dict)
        mode: Mode = Mode.FAST
        either: Union[int, str] = 1
        rest: Any = None
        data: bytes = b"x"
        path: pathlib.Path = pathlib.Path("p")
        inner: Inner = field(default_factory=Inner)

    for cls in (Inner, Structured):
        cls.__module__, cls.__qualname__, globals()[cls.__name__] = __name__, cls.__name__, cls
    values = {"structured": omegaconf.OmegaConf.structured(Structured), "list": omegaconf.OmegaConf.create([1, {"a": 2}, "${0}", "???"])}
    book.save("omegaconf", "structured and plain configs", values, "omegaconf")


def hydras(book, _):
    import hydra.core.config_store  # noqa: F401
    from hydra.conf import HydraConf
    import omegaconf
    book.save("hydra-core", "hydra's own config", omegaconf.OmegaConf.structured(HydraConf))


def timms(book, work):
    import timm
    import timm.utils
    for name in ("vit_tiny_patch16_224", "convnext_atto", "efficientnet_b0", "resnet18", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224",
                 "maxvit_rmlp_pico_rw_256", "eva02_tiny_patch14_224", "levit_128s", "nfnet_f0", "beit_base_patch16_224", "mixer_s16_224"):
        model = timm.create_model(name, num_classes=2)
        for parameter in model.parameters():
            parameter.data = torch.zeros(1)  # the pickle is what matters
        book.save("timm", f"whole {name}", model)
    model = timm.create_model("resnet18", num_classes=2)
    os.chdir(work)
    args = argparse.Namespace(model="resnet18", lr=0.1, mean=None, betas=(0.9, 0.99), head_init=float("nan"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    timm.utils.CheckpointSaver(model, optimizer, args, timm.utils.ModelEmaV3(model), timm.utils.NativeScaler("cpu"), checkpoint_dir=".").save_checkpoint(1, 2.0)
    book.file("timm", "CheckpointSaver with EMA and scaler", work / "checkpoint-1.pth.tar")


def transformer_models(book, _):
    import transformers as t
    small = {"vocab_size": 11, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 6, "max_position_embeddings": 8}
    made = [t.BertForMaskedLM(t.BertConfig(**small)), t.LlamaForCausalLM(t.LlamaConfig(**small, num_key_value_heads=2)),
            t.GPT2LMHeadModel(t.GPT2Config(vocab_size=11, n_positions=6, n_embd=4, n_layer=1, n_head=2)),
            t.T5ForConditionalGeneration(t.T5Config(vocab_size=11, d_model=4, d_kv=2, d_ff=6, num_layers=1, num_heads=2, decoder_start_token_id=0)),
            t.ViTForImageClassification(t.ViTConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=6, image_size=8, patch_size=4)),
            t.MistralForCausalLM(t.MistralConfig(**small, num_key_value_heads=2)),
            t.CLIPTextModel(t.CLIPTextConfig(**small)), t.WhisperModel(t.WhisperConfig(vocab_size=11, d_model=4, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=4, decoder_ffn_dim=4, pad_token_id=0, bos_token_id=1, eos_token_id=2))]
    for model in made:
        book.save("transformers", f"whole {type(model).__name__}", model)
        book.save("transformers", f"{type(model.config).__name__}", model.config)
    book.save("transformers", "small values", {
        "encoding": t.BatchEncoding({"input_ids": [1]}), "generation": t.GenerationConfig(), "output": t.modeling_outputs.BaseModelOutput(torch.ones(1)),
        "features": t.BatchFeature({"x": [1]}), "cache": t.DynamicCache()})


def tokenizer(book, _):
    import tokenizers
    import transformers as t
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = t.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", additional_special_tokens=["<x>"])
    book.save("transformers", "fast tokenizer", fast)
    book.save("transformers", "added token", t.AddedToken("x"))


def trainers(book, work):
    import transformers as t
    os.chdir(work)
    data = [{"input_ids": [1, 2, 3, 4], "labels": [1, 2, 3, 4]}] * 2
    args = t.TrainingArguments("trainer", max_steps=1, save_steps=1, per_device_train_batch_size=2, use_cpu=True, report_to=[],
                               disable_tqdm=True, logging_strategy="no", dataloader_pin_memory=False)
    config = t.GPT2Config(vocab_size=11, n_positions=6, n_embd=4, n_layer=1, n_head=2)
    trainer = t.Trainer(t.GPT2LMHeadModel(config), args, train_dataset=data)
    trainer.train()
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        found = next(work.glob(f"trainer/*/{name}"))
        book.file("transformers", f"Trainer's {name}", found, "training_args" if name == "training_args.bin" else None)
    book.save("transformers", "Seq2SeqTrainingArguments", t.Seq2SeqTrainingArguments("x", use_cpu=True, report_to=[], lr_scheduler_type="cosine"))


def diffuser(book, _):
    import diffusers
    import diffusers.training_utils
    unet = diffusers.UNet2DModel(sample_size=8, in_channels=1, out_channels=1, block_out_channels=(4, 4), norm_num_groups=2,
                                 down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"), layers_per_block=1)
    book.save("diffusers", "whole UNet2DModel", unet)
    book.save("diffusers", "EMAModel state", diffusers.training_utils.EMAModel(unet.parameters()).state_dict() | {"s": torch.Size([1])})
    book.save("diffusers", "schedulers", [diffusers.DDPMScheduler(), diffusers.EulerDiscreteScheduler(), diffusers.DDIMScheduler()])


def ema_pytorchs(book, _):
    import ema_pytorch
    book.save("ema-pytorch", "whole EMA", ema_pytorch.EMA(torch.nn.Linear(2, 2)))


def pefts(book, _):
    import peft
    import transformers as t
    model = t.GPT2LMHeadModel(t.GPT2Config(vocab_size=11, n_positions=6, n_embd=4, n_layer=1, n_head=2))
    book.save("peft", "whole LoRA model", peft.get_peft_model(model, peft.LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True)))


def yolos(book, work):
    import ultralytics
    from ultralytics.nn.tasks import ClassificationModel, DetectionModel, PoseModel, SegmentationModel
    from ultralytics.utils import IterableSimpleNamespace
    for cls, name in ((DetectionModel, "yolov8n.yaml"), (DetectionModel, "yolo11n.yaml"), (DetectionModel, "yolov5nu.yaml"), (DetectionModel, "yolo12n.yaml"),
                      (DetectionModel, "yolov10n.yaml"), (SegmentationModel, "yolov8n-seg.yaml"), (PoseModel, "yolov8n-pose.yaml"),
                      (ClassificationModel, "yolov8n-cls.yaml")):
        try:
            model = cls(name, verbose=False)
        except FileNotFoundError:
            continue
        model.args = IterableSimpleNamespace(box=7.5)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        book.save("ultralytics", f"checkpoint of {name}", {
            "epoch": 1, "model": None, "ema": copy.deepcopy(model).half(), "optimizer": optimizer.state_dict(), "train_args": dict(lr=0.1),
            "date": "x", "version": ultralytics.__version__})
    path = work / "yolo.pt"
    ultralytics.YOLO("yolov8n.yaml", verbose=False).save(path)
    book.file("ultralytics", "YOLO().save", path)


def visions(book, _):
    import torchvision
    import torchvision.transforms as transforms
    import torchvision.transforms.v2 as v2
    for name in ("resnet18", "mobilenet_v3_small", "vit_b_32", "swin_t", "convnext_tiny", "efficientnet_b0", "squeezenet1_0", "densenet121"):
        model = getattr(torchvision.models, name)()
        for parameter in model.parameters():
            parameter.data = torch.zeros(1)
        book.save("torchvision", f"whole {name}", model)
    detector = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    book.save("torchvision", "whole faster R-CNN", detector)
    book.save("torchvision", "transforms", [transforms.Compose([transforms.Resize(4), transforms.ToTensor(), transforms.Normalize([0.5], [0.5]),
              transforms.RandomHorizontalFlip()]), v2.Compose([v2.Resize(4), v2.ToDtype(torch.float32)])])


def metrics(book, _):
    import torchmetrics
    book.save("torchmetrics", "metrics", [torchmetrics.Accuracy("binary"), torchmetrics.MetricCollection([torchmetrics.MeanSquaredError()]),
                                          torchmetrics.F1Score("multiclass", num_classes=3)])


def pandases(book, _):
    import pandas
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": pandas.to_datetime(["2024-01-01", "2024-01-02"]), "d": pandas.Categorical(["u", "v"])})
    book.save("pandas", "frame, series, timestamps, intervals", {
        "frame": frame, "series": frame["a"], "time": pandas.Timestamp("2024-01-01"), "delta": pandas.Timedelta(1), "period": pandas.Period("2024"),
        "na": pandas.NA, "nat": pandas.NaT, "interval": pandas.Interval(0, 1), "multi": frame.set_index(["a", "b"]), "groups": frame["d"],
        "range": pandas.date_range("2024", periods=3, tz="UTC")})


def sklearns(book, _):
    import numpy
    from sklearn import cluster, ensemble, linear_model, pipeline, preprocessing, svm
    data, target = numpy.arange(20.0).reshape(10, 2), numpy.array([0, 1] * 5)
    made = [preprocessing.StandardScaler().fit(data), linear_model.LogisticRegression().fit(data, target), preprocessing.LabelEncoder().fit(target),
            ensemble.RandomForestClassifier(2).fit(data, target), svm.SVC().fit(data, target), cluster.KMeans(2, n_init=1).fit(data),
            pipeline.make_pipeline(preprocessing.MinMaxScaler(), linear_model.Ridge()).fit(data, target),
            ensemble.GradientBoostingClassifier(n_estimators=2).fit(data, target), preprocessing.FunctionTransformer(numpy.log1p)]
    book.save("scikit-learn", "fitted estimators", made)


def accelerates(book, work):
    import accelerate
    book.save("accelerate", "states", [accelerate.utils.DistributedType.NO, accelerate.utils.GradientAccumulationPlugin()])


CASES = [lightnings, omegaconfs, hydras, timms, transformer_models, tokenizer, trainers, diffuser, ema_pytorchs, pefts, yolos, visions, metrics, pandases,
         sklearns, accelerates]
