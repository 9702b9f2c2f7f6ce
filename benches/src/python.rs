//! CPython's time for the same pickle.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

/// The fastest of ten, with the unpickler in C. What torch's pickles name is stood in for by functions that do nothing,
/// so only the machine is timed.
const SCRIPT: &str = "
import io, pickle, sys, time
data = open(sys.argv[1], 'rb').read()
def nothing(*args):
    pass
class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        return super().find_class(module, name) if module == 'collections' else nothing
    def persistent_load(self, pid):
        return pid
def once():
    start = time.perf_counter()
    loaded = pickle.loads(data) if plain else Unpickler(io.BytesIO(data)).load()
    del loaded
    return time.perf_counter() - start
plain = b'torch' not in data[:200]
print(min(once() for _ in range(10)))
";

/// The time of `pickle.loads`, or why there is none.
pub fn loads(pickle: &[u8]) -> Result<Duration, String> {
    let mut file = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    file.write_all(pickle).map_err(|e| e.to_string())?;
    let run = Command::new("python3")
        .args(["-c", SCRIPT])
        .arg(file.path())
        .output();
    let output = run.map_err(|e| format!("python3: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().parse() {
        Ok(seconds) => Ok(Duration::from_secs_f64(seconds)),
        Err(_) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
