//! What was typed.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  ckpt2st model.ckpt                          write model.safetensors beside it
  ckpt2st model.ckpt --fp16 --prune-ema       halve the size, drop averaged weights
  ckpt2st model.ckpt --ema only -o ema.safetensors
                                              the averaged weights under the model's names
  ckpt2st -r checkpoints/ -o converted/       a whole folder, its structure kept
  ckpt2st last.ckpt --exclude 'loss.*'        leave out what you do not want
  ckpt2st pytorch_model.bin.index.json        shard by shard, with model.safetensors.index.json
  ckpt2st checkpoint-100/ -o model.safetensors
                                              sharded, distributed or DeepSpeed: merged into one file

Exit codes: 0 done, 1 an input failed, 2 wrong usage, 3 dangerous pickle refused, 130 interrupted";

/// Convert PyTorch checkpoints (.ckpt, .pt, .pth, .bin) to safetensors, without executing anything in them.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    /// Checkpoint files, indices of shards (*.bin.index.json), folders that are one checkpoint (sharded,
    /// distributed, DeepSpeed), or folders of checkpoints
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,

    /// Output file for one input, or folder for several [default: beside the input, as NAME.safetensors]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,

    /// Look into folders inside folders too
    #[arg(short, long)]
    pub recursive: bool,

    /// Replace existing outputs
    #[arg(long, conflicts_with = "skip_existing")]
    pub overwrite: bool,

    /// Pass over inputs whose output exists
    #[arg(long)]
    pub skip_existing: bool,

    /// Cast floating tensors, rounding as torch does; integers and bools are never cast
    #[arg(
        long,
        value_name = "TYPE",
        default_value = "keep",
        help_heading = "Weights"
    )]
    pub dtype: DtypeArg,

    /// Same as --dtype fp16
    #[arg(long, conflicts_with_all = ["dtype", "bf16"], help_heading = "Weights")]
    pub fp16: bool,

    /// Same as --dtype bf16
    #[arg(long, conflicts_with = "dtype", help_heading = "Weights")]
    pub bf16: bool,

    /// Averaged weights: keep them as they are, drop them, or write only them, under the model's names
    #[arg(
        long,
        value_name = "MODE",
        default_value = "keep",
        help_heading = "Weights"
    )]
    pub ema: EmaArg,

    /// Same as --ema drop
    #[arg(long, conflicts_with = "ema", help_heading = "Weights")]
    pub prune_ema: bool,

    /// Convert the sub-tree at this dotted path, e.g. state_dict [default: the state dict, found by rule]
    #[arg(long, value_name = "PATH", help_heading = "Selection")]
    pub root: Option<String>,

    /// Convert every tensor in the file under its full path, optimizer state included
    #[arg(long, conflicts_with_all = ["root", "ema", "prune_ema"], help_heading = "Selection")]
    pub all: bool,

    /// Only tensors whose name matches, e.g. 'model.diffusion_model.*'; repeatable
    #[arg(long, value_name = "GLOB", help_heading = "Selection")]
    pub include: Vec<String>,

    /// No tensors whose name matches, e.g. 'first_stage_model.*'; repeatable
    #[arg(long, value_name = "GLOB", help_heading = "Selection")]
    pub exclude: Vec<String>,

    /// Convert files that would run code if they were unpickled; nothing is executed either way
    #[arg(long)]
    pub allow_dangerous: bool,

    /// Do not wait until outputs are safe on the disk
    #[arg(long)]
    pub no_sync: bool,

    /// Worker threads [default: as many as the machine runs at once]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// Print errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Print everything that was left out
    #[arg(short, long)]
    pub verbose: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DtypeArg {
    Keep,
    Fp32,
    Fp16,
    Bf16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum EmaArg {
    Keep,
    Drop,
    Only,
}
