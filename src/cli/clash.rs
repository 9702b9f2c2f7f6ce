//! Outputs that are meant twice, or are inputs: refused before any work.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ckpt2st::{Destination, Error, Result, ShardNames, same_place};

use super::job::Job;

/// [`same_place`] of many paths, with one look at each folder.
#[derive(Default)]
pub struct Places {
    folders: HashMap<PathBuf, PathBuf>,
}

impl Places {
    /// The same for all spellings of a path.
    pub fn of(&mut self, path: &Path) -> PathBuf {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return same_place(path);
        };
        if let Some(place) = self.folders.get(folder) {
            return place.join(name);
        }
        let place = same_place(path);
        if let Some(found) = place.parent() {
            self.folders
                .insert(folder.to_path_buf(), found.to_path_buf());
        }
        place
    }
}

/// Refuses outputs of two inputs; `output` is what `-o` says.
///
/// # Errors
/// [`Usage`](ckpt2st::ErrorKind::Usage).
pub fn refuse_shared_outputs(
    jobs: &[Job],
    output: Option<&Path>,
    places: &mut Places,
) -> Result<()> {
    let mut by_output: HashMap<PathBuf, &Job> = HashMap::with_capacity(jobs.len());
    let mut clashes: Vec<(&Job, &Job)> = Vec::new();
    for job in jobs {
        let place = without_case(places.of(&job.output.last_file()));
        let first = *by_output.entry(place).or_insert(job);
        if !std::ptr::eq(first, job) {
            clashes.push((first, job));
        }
    }
    let Some((first, second)) = clashes.first() else {
        return Ok(());
    };
    let more = match clashes.len() {
        1 => String::new(),
        2 => ", and one more pair of inputs has one output".to_owned(),
        count => format!(
            ", and {} more pairs of inputs have one output each",
            count - 1
        ),
    };
    let help = match output.is_some() && first.input.parent() != second.input.parent() {
        true => {
            "-r on the folder around them and --from-file keep the folders that they lie in, or convert them one by \
             one with -o"
        }
        false => "convert one of them by itself with -o",
    };
    Err(Error::usage(format!(
        "{} and {} would both be written to {}{more}; {help}",
        first.input.display(),
        second.input.display(),
        first.output.last_file().display()
    )))
}

/// Refuses a report that is an input or an output.
///
/// # Errors
/// [`Usage`](ckpt2st::ErrorKind::Usage).
pub fn refuse_report(
    report: &Path,
    jobs: &[Job],
    sidecar: Option<&Path>,
    places: &mut Places,
) -> Result<()> {
    let place = places.of(report);
    let name = report.file_name().unwrap_or_default().to_string_lossy();
    let mut is_taken = sidecar.is_some_and(|sidecar| places.of(sidecar) == place);
    for job in jobs {
        let single = job.output.single_file();
        is_taken |= places.of(&job.input) == place
            || places.of(&job.output.last_file()) == place
            || single.is_some_and(|single| places.of(&single) == place);
        if let Destination::Shards { folder, names, .. } = &job.output {
            is_taken |= names.owns(&name) && places.of(&folder.join(&*name)) == place;
        }
    }
    match is_taken {
        false => Ok(()),
        true => Err(Error::usage(format!(
            "--report: {} is an input or an output; choose another name",
            report.display()
        ))),
    }
}

/// Names that differ only in case are usually one file on these systems.
fn without_case(place: PathBuf) -> PathBuf {
    match place.to_str() {
        Some(place) if cfg!(any(windows, target_os = "macos")) => place.to_lowercase().into(),
        _ => place,
    }
}

/// Refuses outputs that are `inputs` of other jobs, or may be numbered files of other outputs.
///
/// # Errors
/// [`Usage`](ckpt2st::ErrorKind::Usage).
pub fn refuse_inputs_as_outputs(
    jobs: &[Job],
    inputs: &HashMap<PathBuf, usize>,
    places: &mut Places,
) -> Result<()> {
    // By the file that each output would be if it had no shards.
    let mut sharded: HashMap<PathBuf, (&ShardNames, &Job)> = HashMap::new();
    for job in jobs {
        if let Destination::Shards { folder, names, .. } = &job.output {
            sharded.insert(places.of(&folder.join(names.single())), (names, job));
        }
    }
    for job in jobs {
        let outputs = [Some(job.output.last_file()), job.output.single_file()];
        for output in outputs.into_iter().flatten() {
            let place = places.of(&output);
            if inputs.contains_key(&place) && place != places.of(&job.input) {
                return Err(Error::usage(format!(
                    "{} would be written, but is an input too; choose another folder with -o",
                    output.display()
                )));
            }
            let Some(name) = output.file_name().and_then(|name| name.to_str()) else {
                continue; // the names of shards are valid Unicode
            };
            let whole = whole(name).map(|whole| place.with_file_name(whole));
            if let Some((names, other)) = whole.and_then(|whole| sharded.get(&whole))
                && names.owns(name)
            {
                return Err(Error::usage(format!(
                    "{} would be written for {}, and may be written as a shard of {} too; choose another folder with \
                     -o",
                    output.display(),
                    job.input.display(),
                    other.input.display()
                )));
            }
        }
    }
    Ok(())
}

/// The name without a shard's numbers.
fn whole(name: &str) -> Option<String> {
    let (rest, _) = name.rsplit_once("-of-")?;
    let (stem, _) = rest.rsplit_once('-')?;
    Some(format!("{stem}.safetensors"))
}
