//! What was typed behind a verb.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::{LimitArgs, MetadataArgs, ReportArgs, RootArgs, WeightArgs};

pub const INSPECT_EXAMPLES: &str = "\
Examples:
  ckpt2st inspect model.ckpt                  the tree of modules, as deep as fits
  ckpt2st inspect model.safetensors -v        every tensor
  ckpt2st inspect last.ckpt --json | jq .config
                                              hyper-parameters for a script

Exit codes: 0 done, 1 an input failed, 2 wrong usage, 3 an input would run code if it were unpickled,
130 interrupted";

pub const SCAN_EXAMPLES: &str = "\
Examples:
  ckpt2st scan model.ckpt                     would it run code? nothing is executed to find out
  ckpt2st scan downloads/                     every file in and below a folder, whatever its name
  ckpt2st scan model.ckpt -v                  every pickle and every class and function it names
  ckpt2st scan downloads/ --json | jq 'select(.status != \"clean\")'

Exit codes: 0 clean, 1 a file could not be looked at whole, 2 wrong usage, 3 a file would run code,
130 interrupted";

pub const VERIFY_EXAMPLES: &str = "\
Examples:
  ckpt2st verify model.ckpt model.safetensors
  ckpt2st verify model.ckpt half.safetensors --fp16 --prune-ema
                                              with the options of the conversion
  ckpt2st verify checkpoint-100/ converted/   a folder with an index
  ckpt2st verify lora.pt lora.safetensors --hash --metadata license=mit
                                              with options on the metadata, it is compared too

Exit codes: 0 equal, 1 different or failed, 2 wrong usage, 3 dangerous pickle refused, 130 interrupted";

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Checkpoints as for a conversion, safetensors files, *.safetensors.index.json, or folders with one of either
    #[arg(required = true, value_name = "FILE")]
    pub inputs: Vec<PathBuf>,

    /// One JSON object for each input on standard output (docs/json.md), e.g. --json | jq .total
    #[arg(long)]
    pub json: bool,

    /// Levels of the tree of modules to show, e.g. 2 [default: what fits in about 100 lines]
    #[arg(long, value_name = "N")]
    pub depth: Option<NonZeroUsize>,

    #[command(flatten)]
    pub root: RootArgs,

    #[command(flatten)]
    pub limits: LimitArgs,

    /// List every tensor, and whole lists, e.g. inspect model.ckpt -v
    #[arg(short, long)]
    pub verbose: bool,
}

#[derive(Debug, Args)]
pub struct ScanArgs {
    /// Files of any kind, or folders: of those every file in and below them, whatever its name
    #[arg(required = true, value_name = "PATH")]
    pub inputs: Vec<PathBuf>,

    /// One JSON object for each file on standard output (docs/json.md), e.g. --json | jq .pickles
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub limits: LimitArgs,

    /// Exit with 0 for files that are unknown: they use code of packages that nothing is known of
    #[arg(long)]
    pub allow_unknown: bool,

    /// Print only files that are not clean, e.g. scan downloads/ -q
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// List every pickle and all that it names, e.g. scan model.ckpt -v
    #[arg(short, long)]
    pub verbose: bool,
}

#[derive(Debug, Args)]
#[command(mut_arg("json", |arg| arg.help(
    "One JSON object on standard output (docs/json.md), e.g. --json | jq .differences",
)))]
#[command(mut_arg("hash", |arg| arg.help(
    "Compute the SHA-256 of the data, and compare sshs_model_hash and modelspec.hash_sha256 with it",
)))]
pub struct VerifyArgs {
    /// The checkpoint
    pub source: PathBuf,

    /// The safetensors file, index of shards, or folder with one of either that was made of it
    pub output: PathBuf,

    /// Taken, since conversions take it: tensors are found by name, however the output is cut into files
    #[arg(long, value_name = "SIZE")]
    pub max_shard_size: Option<String>,

    #[command(flatten)]
    pub weights: WeightArgs,

    #[command(flatten)]
    pub metadata: MetadataArgs,

    #[command(flatten, next_help_heading = None)]
    pub report: ReportArgs,

    #[command(flatten)]
    pub limits: LimitArgs,

    /// Print errors only: the exit code tells whether there are differences
    #[arg(short, long)]
    pub quiet: bool,
}
