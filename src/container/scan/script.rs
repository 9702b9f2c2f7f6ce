//! Source of TorchScript, which `torch.load` hands to `torch.jit.load`.

use std::sync::LazyLock;

use regex::Regex;

/// What a line of a class, and the head of a function, look like as TorchScript prints them
/// (torch/csrc/jit/serialization/python_print.cpp): names, types, which the compiler only reads,
/// and literals for values. A value must not name anything, since an operator, an index or a call
/// of what it names can be code of the archive.
static LINE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let (name, text) = ("[A-Za-z0-9_]+", r#""[^"\\]*""#);
    let types = r"[A-Za-z0-9_.\[\], ]+";
    let value = format!(r"(?:[ ,\[\]()]|-?[0-9][0-9.e+-]*|True|False|None|{text})+");
    let parameter = format!("{name}(?:: {types})?(?:={value})?");
    let class = format!(r"class {name}(?:\({name}\))?:");
    let function = format!(r"def {name}\((?:{parameter}, *)*(?:{parameter})?\) -> {types}:");
    let attribute = format!("{name}(?: : {types})?(?: = {value})?");
    let annotation = format!(r"__annotations__\[{text}\] = {types}");
    Regex::new(&format!(
        "^(?:{class}|{function}|{attribute}|{annotation})$"
    ))
    .ok()
});

/// Whether loading source as TorchScript prints it runs nothing.
///
/// The compiler runs `__setstate__` of classes, default values of parameters and values of class
/// attributes, and TorchScript can write files (`torch.save`). So classes have no such method, and
/// all values are literals; bodies of functions are compiled only. Source in any other form may
/// run something.
pub fn only_compiles(source: &str) -> bool {
    let is_control = |c: char| c.is_control() && c != '\n';
    let has_long_text = source.contains("\"\"\"") || source.contains("'''");
    if has_long_text || source.contains(is_control) || source.contains("__setstate__") {
        return false;
    }
    let mut lines = source.lines();
    // The indentation of the function that the lines are in.
    let mut function: Option<usize> = None;
    while let Some(line) = lines.next() {
        let text = line.trim_start_matches(' ');
        let indent = line.len().saturating_sub(text.len());
        if text.is_empty() {
            continue;
        }
        if function.is_some_and(|function| indent > function) {
            // Defaults of a function in a function run when the outer one is compiled; torch prints
            // no such.
            let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.any(|word| word == "def") {
                return false;
            }
            continue;
        }
        let mut text = text.to_owned();
        let is_function = text.starts_with("def ");
        // The head of a function has a line for each parameter.
        while is_function && !text.ends_with(':') {
            let Some(more) = lines.next() else {
                return false;
            };
            text.push_str(more);
        }
        if !LINE.as_ref().is_some_and(|line| line.is_match(&text)) {
            return false;
        }
        function = is_function.then_some(indent);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::only_compiles;

    #[test]
    fn only_source_in_the_form_that_torch_prints_is_known_to_run_nothing() {
        let class = "class M(Module):\n  __parameters__ = [\"w\", ]\n  w : Tensor\n";
        let method = "  def forward(self: __torch__.M,\n    x: Tensor,\n    n: int=1) -> Tensor:\n    return torch.save(x, \"f\")\n";
        assert!(only_compiles(&[class, method].concat()));
        let values = "  n : Final[Tuple[int, int]] = (1, 1)\n  s : Final[str] = \"zeros\"\n  __annotations__[\"0\"] = __torch__.M\n";
        let defaults = "  def f(self,\n    n: List[int]=[1, -2],\n    b: Optional[Tensor]=None,\n    e: float=1e-05) -> Tensor:\n    return b\n";
        assert!(only_compiles(&[class, values, defaults].concat()));
        assert!(only_compiles(
            "def relu(x: Tensor) -> Tensor:\n  y = torch.relu(x)\n  return y\n"
        ));
        // torch 2.15 writes the file when it loads any of these.
        let call = "torch.save(\"x\", \"f\")";
        for source in [
            format!("{class}  def __setstate__(self, s: int) -> NoneType:\n    {call}\n"),
            format!("{class}  def forward(self, x: int=({call}, 1)[1]) -> int:\n    return x\n"),
            format!(
                "{class}  def forward(self,\n x: int=({call},\n 1)[1]) -> int:\n    return x\n"
            ),
            format!("{class}  n : Final[int] = {call}\n"),
            format!("{class}  n : Final[List[int]] = [\n{call}]\n"),
            // An operator or an index of an object runs a method of its class, which the archive
            // brings.
            format!("{class}  n : Final[int] = CONSTANTS.c0 + 1\n"),
            format!("{class}  n : Final[int] = -CONSTANTS.c0\n"),
            format!("{class}  def f(self, x: int=CONSTANTS.c0[0]) -> int:\n    return x\n"),
            format!("def f(x: int) -> int: return {call}\n"),
            format!(
                "def f(x: int) -> int:\n  def g(y: int={call}) -> int:\n    return y\n  return x\n"
            ),
        ] {
            assert!(!only_compiles(&source), "{source}");
        }
    }
}
