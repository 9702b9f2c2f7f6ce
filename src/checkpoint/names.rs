//! The keys by which checkpoints name their parts: one table for each kind.

/// Keys of a state dict at the top of a file, first choice first.
pub const STATE_DICTS: &[&str] = &[STATE_DICT, "model_state_dict"];

/// The key under which Lightning and MMEngine keep the weights.
pub const STATE_DICT: &str = "state_dict";

/// Mappings that are unwrapped when nothing else with tensors is left.
pub const WRAPPERS: &[&str] = &[
    "generator",
    "model",
    "module",
    "net",
    "network",
    "netG",
    "params",
    "state_dict",
    "model_state_dict",
    "weights",
];

/// Trees of averaged weights beside the raw ones.
pub const EMA_TREES: &[&str] = &[
    "G_ema",
    "ema",
    "ema_model",
    "ema_model_state_dict",
    "ema_state_dict",
    "g_ema",
    "generator_ema",
    "model_ema",
    "model_ema_state_dict",
    "netG_ema",
    "params-ema",
    "params_ema",
    "state_dict_ema",
    "swa_model",
    "swa_model_state_dict",
    "swa_state_dict",
];

/// Training state by its exact key.
const TRAINING_KEYS: &[&str] = &[
    "amp",
    "args",
    "averaging_state",
    "best_acc",
    "best_fitness",
    "best_metric",
    "best_score",
    "callbacks",
    "cfg",
    "config",
    "criterion",
    "current_model_state",
    "dataloader",
    "epoch",
    "extra_state",
    "frozen_param_fragments",
    "global_step",
    "grad_scaler",
    "hparams",
    "hparams_name",
    "hyper_parameters",
    "loops",
    "loss",
    "lr_scheduler",
    "lr_schedulers",
    "message_hub",
    "metrics",
    "native_amp_scaling_state",
    "opt",
    "optim",
    "param_groups",
    "scaler",
    "step",
    "string_to_token",
    "task_state",
    "training_args",
];

/// Files whose [`STATE_DICT`] is the average: a key that marks them, and the key of their raw weights.
pub const SWAPPED: &[(&str, &str)] = &[
    ("current_model_state", "current_model_state"), // Lightning's WeightAveraging
    ("message_hub", "ema_state_dict"),              // MMEngine's EMAHook
];

/// Whether a top-level key names training state: by the tables, or as `optim*`, `*scheduler`, `*rng*`.
pub fn is_training_state(key: &str) -> bool {
    let is_part = |part: &str| {
        let singular = part.strip_suffix('s').unwrap_or(part);
        part == "opt"
            || part.starts_with("optim")
            || singular.ends_with("scheduler")
            || singular == "rng"
    };
    TRAINING_KEYS.contains(&key) || key.split(['_', '.', '-']).any(is_part)
}
