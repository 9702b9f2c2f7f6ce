//! What was typed.

mod verbs;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use ckpt2st::{Ema, FloatType, OnOverflow, Ties};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

pub use verbs::{InspectArgs, ScanArgs, VerifyArgs};

const EXAMPLES: &str = "\
Examples:
  ckpt2st model.ckpt                          write model.safetensors beside it
  ckpt2st model.ckpt --fp16 --prune-ema       halve the size, drop averaged weights
  ckpt2st model.ckpt --ema only -o ema.safetensors
                                              the averaged weights under the model's names
  ckpt2st model.ckpt --dry-run                show what would be written
  ckpt2st model.pt --strip-prefix module.     names as without DataParallel
  ckpt2st -r checkpoints/ -o converted/       a whole folder, its structure kept
  ckpt2st -r checkpoints/ -o converted/ --skip-existing --report done.jsonl
                                              a batch that can be killed and run again
  ckpt2st last.ckpt --exclude 'loss.*' --keep-config
                                              leave out what you do not want, keep hyper-parameters
  ckpt2st pytorch_model.bin.index.json        shard by shard, with model.safetensors.index.json
  ckpt2st model.bin --max-shard-size 5GB      in files of at most 5 GB, with an index
  ckpt2st checkpoint-100/ -o model.safetensors
                                              sharded, distributed or DeepSpeed: merged into one file
  ckpt2st inspect model.ckpt                  what is in it; `ckpt2st inspect --help` for more
  ckpt2st verify model.ckpt model.safetensors prove that nothing was lost

Exit codes: 0 done, 1 an input failed, 2 wrong usage, 3 dangerous pickle refused, 130 interrupted";

/// Convert PyTorch checkpoints (.ckpt, .pt, .pth, .bin) to safetensors, without executing anything in them.
///
/// Steps are taken in this order: --root, --ema, --include, --exclude, --rename, --strip-prefix, --dtype, --ties,
/// --max-shard-size.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Option<Verb>,

    /// Without a verb, inputs are converted.
    #[command(flatten)]
    pub convert: ConvertArgs,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show what is in checkpoints and safetensors files: tensors, configuration, and what their pickles would call
    #[command(after_help = verbs::INSPECT_EXAMPLES, max_term_width = 100)]
    Inspect(InspectArgs),

    /// Judge what files would call if they were unpickled, pickle by pickle, broken files too
    #[command(after_help = verbs::SCAN_EXAMPLES, max_term_width = 100)]
    Scan(ScanArgs),

    /// Compare an output with its source, tensor by tensor; give it the options of the conversion
    #[command(after_help = verbs::VERIFY_EXAMPLES, max_term_width = 100)]
    Verify(Box<VerifyArgs>),
}

#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// Checkpoint files, indices of shards (*.bin.index.json), folders that are one checkpoint (sharded,
    /// distributed, DeepSpeed), folders of checkpoints, or patterns that the shell did not expand, e.g. 'runs/**/*.ckpt'
    #[arg(required_unless_present = "from_file", value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,

    /// Read inputs from a file, or from standard input (-): one on each line, or each ended by a NUL. Below -o they keep
    /// their paths, e.g. find runs -name '*.ckpt' -print0 | ckpt2st --from-file - -o converted/
    #[arg(long, value_name = "LIST")]
    pub from_file: Option<PathBuf>,

    /// Output file for one input, or folder for several, e.g. -o unet.safetensors or -o converted/ [default: beside the
    /// input, as NAME.safetensors]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,

    /// Look into folders inside folders too, e.g. -r checkpoints/
    #[arg(short, long)]
    pub recursive: bool,

    /// Replace existing outputs, e.g. model.ckpt --fp16 --overwrite
    #[arg(long, conflicts_with = "skip_existing")]
    pub overwrite: bool,

    /// Go on where an earlier run ended: pass over inputs whose output is complete and no older, and make others
    /// again, e.g. -r checkpoints/ --skip-existing
    #[arg(long)]
    pub skip_existing: bool,

    /// Begin no further input after the first failure; an output that is there already is one, e.g. -r checkpoints/
    /// --fail-fast
    #[arg(long)]
    pub fail_fast: bool,

    /// Write a JSON object for each input into a file as soon as it is done (docs/json.md), e.g. --report done.jsonl
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub report: Option<PathBuf>,

    /// Cut the output into files of at most this size and write an index, by Hugging Face's rules, e.g. 5GB or 500MiB
    #[arg(long, value_name = "SIZE")]
    pub max_shard_size: Option<String>,

    /// Show what would be written and what would be left out, and write nothing, e.g. model.ckpt --prune-ema --dry-run
    #[arg(long)]
    pub dry_run: bool,

    /// Compare each output with its source before it gets its name, e.g. model.ckpt --verify
    #[arg(long, conflicts_with = "dry_run")]
    pub verify: bool,

    #[command(flatten)]
    pub weights: WeightArgs,

    #[command(flatten)]
    pub metadata: MetadataArgs,

    /// Write what --keep-config keeps into a JSON file of its own, e.g. --sidecar model.json; for one input
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "skip_existing",
        help_heading = "Metadata"
    )]
    pub sidecar: Option<PathBuf>,

    /// Do not wait until outputs are safe on the disk, e.g. -r checkpoints/ --no-sync
    #[arg(long, help_heading = None)]
    pub no_sync: bool,

    #[command(flatten, next_help_heading = None)]
    pub telling: ReportArgs,

    #[command(flatten)]
    pub limits: LimitArgs,

    /// Print errors only, e.g. -r checkpoints/ -q
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Print whole lists: what was left out, what shares memory, what casts did, e.g. model.ckpt -v
    #[arg(short, long)]
    pub verbose: bool,
}

/// What is done to the weights.
#[derive(Debug, Args)]
#[command(next_help_heading = "Weights")]
pub struct WeightArgs {
    /// Cast floating tensors, rounding as torch does, e.g. fp16; integers and bools are never cast
    #[arg(long, value_name = "TYPE", default_value = "keep", value_parser = one_of(DTYPES))]
    pub dtype: Target,

    /// Same as --dtype fp16, e.g. model.ckpt --fp16
    #[arg(long, conflicts_with_all = ["dtype", "bf16"])]
    pub fp16: bool,

    /// Same as --dtype bf16, e.g. model.ckpt --bf16
    #[arg(long, conflicts_with = "dtype")]
    pub bf16: bool,

    /// No cast for tensors whose name in the output matches, e.g. '*.norm*'; repeatable
    #[arg(long, value_name = "GLOB")]
    pub keep_dtype: Vec<String>,

    /// Finite values that do not fit into the new type, and would be inf in it: report them, write nothing, or make
    /// them its largest value, e.g. --fp16 --on-overflow clamp
    #[arg(long, value_name = "MODE", default_value = "warn", value_parser = one_of(OVERFLOW))]
    pub on_overflow: OnOverflow,

    /// Averaged weights (EMA, SWA): keep them as they are, drop them, or write only them, under the model's names,
    /// e.g. --ema only
    #[arg(
        long,
        value_name = "MODE",
        default_value = "keep",
        conflicts_with = "all"
    )]
    #[arg(value_parser = one_of(EMA))]
    pub ema: Ema,

    /// Same as --ema drop, e.g. model.ckpt --prune-ema
    #[arg(long, conflicts_with_all = ["ema", "all"])]
    pub prune_ema: bool,

    /// Tensors that share memory (tied weights): write each, write one and name the others in the metadata (as
    /// safetensors.torch.save_model does), or write nothing, e.g. --ties alias
    #[arg(long, value_name = "MODE", default_value = "copy", value_parser = one_of(TIES))]
    pub ties: Ties,

    #[command(flatten)]
    pub root: RootArgs,

    /// Only tensors whose name matches, e.g. 'model.diffusion_model.*'; repeatable
    #[arg(long, value_name = "GLOB", help_heading = "Names")]
    pub include: Vec<String>,

    /// No tensors whose name matches, e.g. 'first_stage_model.*'; repeatable
    #[arg(long, value_name = "GLOB", help_heading = "Names")]
    pub exclude: Vec<String>,

    /// Replace what matches in names, e.g. '^blocks\.(\d+)\.=>layers.${1}.'; repeatable, in this order
    #[arg(long, value_name = "REGEX=>NEW", help_heading = "Names")]
    pub rename: Vec<String>,

    /// Take a prefix off names that have it, e.g. module. (DataParallel) or _orig_mod. (torch.compile); repeatable
    #[arg(long, value_name = "PREFIX", help_heading = "Names")]
    pub strip_prefix: Vec<String>,

    /// Read files that would run code if they were unpickled, e.g. old.ckpt --allow-dangerous; nothing is executed
    /// either way
    #[arg(long, help_heading = None)]
    pub allow_dangerous: bool,
}

/// What the output's metadata says beside `format: pt`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Metadata")]
pub struct MetadataArgs {
    /// Add an entry to the metadata, e.g. license=mit; repeatable
    #[arg(id = "metadata", long, value_name = "KEY=VALUE")]
    pub entries: Vec<String>,

    /// Keep what the checkpoint knows besides tensors (epoch, step, hyper-parameters, config), as JSON in the
    /// metadata (of several files: the index's) under ckpt2st.config, e.g. last.ckpt --keep-config
    #[arg(long)]
    pub keep_config: bool,

    /// Add the hashes that model managers look for (sshs_model_hash, sshs_legacy_hash, modelspec.hash_sha256) to the
    /// metadata, and print the short hash of web UIs, e.g. lora.pt --hash
    #[arg(long)]
    pub hash: bool,

    /// Record the input's name, the options and the version of ckpt2st in the metadata, e.g. --fp16 --provenance
    #[arg(long)]
    pub provenance: bool,
}

/// Which part of a file is meant.
#[derive(Debug, Args)]
pub struct RootArgs {
    /// The sub-tree at this dotted path, e.g. state_dict [default: the state dict, found by rule]
    #[arg(long, value_name = "PATH", help_heading = "Names")]
    pub root: Option<String>,

    /// Every tensor in the file under its full path, optimizer state included, e.g. last.ckpt --all
    #[arg(long, conflicts_with = "root", help_heading = "Names")]
    pub all: bool,
}

/// How much of a file is read before it is refused.
#[derive(Debug, Args)]
pub struct LimitArgs {
    /// Raise or lower a limit that protects from hostile files (docs/limits.md), e.g. tensors=1000000 or
    /// pickle-bytes=4GiB; repeatable
    #[arg(id = "limit", long = "limit", value_name = "NAME=VALUE")]
    pub entries: Vec<String>,
}

/// How results are told.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// One JSON object for each input on standard output (docs/json.md), e.g. --json | jq .casts
    #[arg(long)]
    pub json: bool,

    /// Worker threads, e.g. 4 [default: as many as the machine runs at once]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// What floating tensors are cast to.
type Target = Option<FloatType>;

/// The words for the values of an option.
type Words<T> = &'static [(&'static str, T)];

const DTYPES: Words<Target> = &[
    ("keep", None),
    ("fp32", Some(FloatType::Float32)),
    ("fp16", Some(FloatType::Float16)),
    ("bf16", Some(FloatType::BFloat16)),
    ("fp8-e4m3", Some(FloatType::Float8E4M3Fn)),
    ("fp8-e5m2", Some(FloatType::Float8E5M2)),
];
const EMA: Words<Ema> = &[
    ("keep", Ema::Keep),
    ("drop", Ema::Drop),
    ("only", Ema::Only),
];
const OVERFLOW: Words<OnOverflow> = &[
    ("warn", OnOverflow::Warn),
    ("error", OnOverflow::Error),
    ("clamp", OnOverflow::Clamp),
];
const TIES: Words<Ties> = &[
    ("copy", Ties::Copy),
    ("alias", Ties::Alias),
    ("error", Ties::Error),
];

fn one_of<T: Copy + Send + Sync>(words: Words<T>) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words.iter().map(|(word, _)| *word)).try_map(|typed| {
        let mut words = words.iter();
        let found = words.find(|(word, _)| *word == typed);
        found.map(|(_, value)| *value).ok_or("is not known")
    })
}
