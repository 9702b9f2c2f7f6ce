//! How many files may be open at once.

/// Files that a conversion holds open: source, output, what is unpacked, a folder while it is flushed.
const EACH: usize = 5;
/// Files that are open besides: the standard streams, lists, reports, libraries.
const BESIDES: usize = 16;

/// A distributed checkpoint has a file for each process that wrote it, a thousand and more, and a shell's usual
/// limit is 1024 open files. A program may raise it as far as the system lets it.
#[cfg(unix)]
pub fn allow_many() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where that is refused, the files beyond the limit will be told of one by one.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
}

#[cfg(not(unix))]
pub fn allow_many() {}

/// Whether something failed because too many files were open, in this process or in the system.
#[cfg(unix)]
pub fn is_lack_of(error: &ckpt2st::Error) -> bool {
    use rustix::io::Errno;
    let code = error.io_error().and_then(std::io::Error::raw_os_error);
    code.is_some_and(|code| [Errno::MFILE, Errno::NFILE].contains(&Errno::from_raw_os_error(code)))
}

#[cfg(not(unix))]
pub fn is_lack_of(_error: &ckpt2st::Error) -> bool {
    false
}

/// How many conversions may run side by side, at least one.
pub fn conversions() -> usize {
    (limit().saturating_sub(BESIDES) / EACH).max(1)
}

#[cfg(unix)]
fn limit() -> usize {
    use rustix::process::{Resource, getrlimit};
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

#[cfg(not(unix))]
fn limit() -> usize {
    usize::MAX
}
