//! Whether there is room for what a run will write, told before any work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ckpt2st::{Existing, Phase, Progress, preview};
use indicatif::HumanBytes;

use super::board::Board;
use super::job::Job;
use super::run::Run;
use super::signals;

/// An output is hardly ever larger than so many times its input: float8 cast to float32 takes four times as much,
/// and compressed inputs seldom shrink to less than half. Where there is more room than that, no plan is made to see.
const GROWTH: u64 = 8;

/// The size of a job's input in bytes, as far as it can be told without reading it.
pub fn bytes_of(job: &Job) -> u64 {
    let files = job.layout.files(&job.input).unwrap_or_default();
    let sizes = files
        .iter()
        .filter_map(|file| Some(file.metadata().ok()?.len()));
    sizes.sum()
}

/// A file system that outputs go to.
struct Disk<'r> {
    folder: PathBuf,
    /// Bytes that may be written.
    free: u64,
    /// Jobs, and the sizes of their inputs in bytes.
    jobs: Vec<(&'r Job, u64)>,
}

/// Compares what the jobs will write with what is free, and tells of it. `bytes` are the sizes of their inputs.
pub fn tell(run: &Run, bytes: &[u64], board: &Board) {
    if run.jobs.len() < 2 || run.quiet {
        return;
    }
    let disks = disks(run, bytes);
    let several = disks.len() > 1;
    for disk in disks {
        let inputs: u64 = disk.jobs.iter().map(|(_, bytes)| bytes).sum();
        let place = match several {
            true => format!(" around {}", disk.folder.display()),
            false => String::new(),
        };
        let free = HumanBytes(disk.free);
        let count = disk.jobs.len();
        if inputs.saturating_mul(GROWTH) <= disk.free {
            let inputs = HumanBytes(inputs);
            board.say([format!(
                "{count} inputs, {inputs}; {free} free for outputs{place}"
            )]);
            continue;
        }
        let needed = needed(run, &disk);
        let enough = match needed <= disk.free {
            true => "",
            false => {
                ", which is too little: some will fail; make room, or choose another folder with -o"
            }
        };
        let (inputs, needed) = (HumanBytes(inputs), HumanBytes(needed));
        board.say([format!(
            "{count} inputs, {inputs}; {needed} to write, {free} free for outputs{place}{enough}"
        )]);
    }
}

/// The file systems that the outputs go to, where that can be told.
fn disks<'r>(run: &'r Run, bytes: &[u64]) -> Vec<Disk<'r>> {
    let mut of_folders: BTreeMap<PathBuf, Option<u64>> = BTreeMap::new();
    let mut disks: BTreeMap<u64, Disk> = BTreeMap::new();
    for (job, bytes) in run.jobs.iter().zip(bytes) {
        let Some(folder) = job.output.last_file().parent().map(Path::to_path_buf) else {
            continue;
        };
        let device = of_folders.entry(folder).or_insert_with(|| {
            let existing = job.output.existing_folder()?;
            let (device, free) = look(&existing)?;
            disks.entry(device).or_insert(Disk {
                folder: existing,
                free,
                jobs: Vec::new(),
            });
            Some(device)
        });
        if let Some(disk) = device.and_then(|device| disks.get_mut(&device)) {
            disk.jobs.push((job, *bytes));
        }
    }
    disks.into_values().collect()
}

/// The number of the file system that a folder lies on, and the bytes that are free there.
#[cfg(unix)]
fn look(folder: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let device = folder.metadata().ok()?.dev();
    let found = rustix::fs::statvfs(folder).ok()?;
    Some((device, found.f_bavail.saturating_mul(found.f_frsize)))
}

#[cfg(not(unix))]
fn look(_folder: &Path) -> Option<(u64, u64)> {
    None
}

/// Bytes that the jobs will write. An output that is replaced stays until the new one is complete.
fn needed(run: &Run, disk: &Disk) -> u64 {
    let of_job = |(job, bytes): &(&Job, u64)| {
        let is_complete = || {
            let existing = Existing::of(&job.input, &job.output);
            matches!(existing, Ok(Existing::Complete(_)))
        };
        if signals::is_interrupted() || run.skip_existing && is_complete() {
            return 0;
        }
        let look = Look::default();
        match preview(&job.input, &job.output, &run.options, &look) {
            Ok(preview) => preview.summary.bytes_out,
            // At least that, where it has to be unpacked first.
            Err(_) if look.unpacks.load(Ordering::Relaxed) => *bytes,
            Err(_) => 0,
        }
    };
    disk.jobs.iter().map(of_job).sum()
}

/// Looks at a plan only as long as nothing has to be unpacked for it.
#[derive(Default)]
struct Look {
    unpacks: AtomicBool,
}

impl Progress for Look {
    fn phase(&self, phase: Phase) {
        if phase == Phase::Unpacking {
            self.unpacks.store(true, Ordering::Relaxed);
        }
    }

    fn cancelled(&self) -> bool {
        self.unpacks.load(Ordering::Relaxed) || signals::is_interrupted()
    }
}
