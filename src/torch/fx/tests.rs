use std::fs;

use super::names::is_function;
use super::source::paths;
use crate::torch::verdict::is_dangerous;

/// What `torch.save` of a GraphModule wrote; see `scripts/list_fx_sources.py`.
#[derive(serde::Deserialize)]
struct Source {
    torch: String,
    what: String,
    import_block: String,
    code: String,
}

#[test]
fn what_torch_generates_is_understood() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/genuine/fx_sources.json"
    );
    let rows: Vec<Source> = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert!(rows.len() > 20);
    for row in rows {
        let source = format!("{}{}", row.import_block, row.code);
        assert!(paths(&source).is_some(), "{} {}", row.torch, row.what);
    }
}

#[test]
fn no_operation_is_a_dangerous_global() {
    for name in [
        "load",
        "save",
        "from_file",
        "compile",
        "hub.load",
        "ops.load_library",
        "ops.aten.save.default",
        "ops.aten.from_file.default",
        "utils.cpp_extension.load",
        "_C._jit_init",
        "jit.load",
        "import_ir_module",
        "_import_dotted_name",
        "classes.load_library",
        "set_default_device",
        "nn.functional.handle_torch_function",
        "Tensor.apply_",
        "Tensor.map_",
        "ops.aten.add.__init__",
        "nn.functional.torch.load",
        "vmap",
        "cond",
        "copy",
    ] {
        assert!(!is_function(&format!("torch.{name}")), "{name}");
    }
    let operations = super::names::OPERATIONS.split_ascii_whitespace();
    for name in operations {
        assert!(!is_dangerous("torch", name), "{name}");
    }
}

#[test]
fn lines_that_torch_does_not_generate_are_refused() {
    let good = "x = self.a.b(x, dim = 1);  y = x";
    assert!(body(good).is_some());
    for line in [
        "import os",
        "x = __import__('os')",
        "t = torch",
        "t = torch.hub",
        "t = torch.relu",
        "t = torch.Tensor",
        "x = torch.load('http://x')",
        "x = torch.hub.load('a', 'b')",
        "x = torch.ops.load_library('x.so')",
        "x = torch.ops.aten.save.default(x, 'f')",
        "x = torch.utils.cpp_extension.load('a', 'b')",
        "x = torch._C._jit_set_profiling_mode(x)",
        "x = torch.serialization.os.system('id')",
        "x = torch.relu.__globals__",
        "x = torch.relu(x).__class__",
        "x = torch.relu(x)(x)",
        "x = x.__class__",
        "x = x.__reduce__()",
        "x = x.tofile('f')",
        "x = x.rename('f')",
        "x = x.unlink()",
        "x = x(x)",
        "x = x[0](x)",
        "x = (x)(x)",
        "x = (x).tofile('f')",
        "x = self",
        "x = self()",
        "self = x",
        "torch = x",
        "getattr = x",
        "slice = x",
        "_operator_add = x",
        "x = _operator_add",
        "x = _operator_add.__self__",
        "x = getattr(torch, \"load\")('f')",
        "x = getattr(x, \"__class__\")",
        "x = getattr(x, \"tofile\")('f')",
        "x = getattr(x, y)",
        "x = getattr(self, x)",
        "x = getattr(self, \"a\", x)",
        "x = getattr(self.a(x), \"b\")",
        "x = getattr",
        "x = exec('import os')",
        "x = eval('1')",
        "x = open('f')",
        "x = print('f')",
        "x = unknown",
        "x = '{0.__class__}'.format(x)",
        "x = 'a' 'b'",
        "x = '\\x41'",
        "x = f'{x}'",
        "x = b'x'",
        "x = '''a'''",
        "x = \"\"\"a",
        "x = 'a",
        "x = lambda: 1",
        "x = [y for y in x]",
        "x = (y := 1)",
        "y := 1",
        "x = x if x else x",
        "x = not x",
        "x = 1if x else x",
        "x = 1 .real",
        "x = 1..real",
        "x = ...",
        "x = *x",
        "x = torch.relu(*x)",
        "x = torch.relu(**x)",
        "x = await x",
        "x = yield",
        "del x",
        "global x",
        "if x: y = x",
        "for y in x: pass",
        "def g(): pass",
        "class A: pass",
        "@x",
        "with x: pass",
        "raise x",
        "assert x",
        "x",
        "x.add_(1)",
        "x.data = x",
        "self.a = x",
        "torch.load = x",
        "x = x # y",
        "# y",
        "x = x \\",
        "x = (x,",
        "x = x)",
        "x =\tx",
        "x = x\r",
        "x = x\rimport os",
        "x = x\x0c",
        "x = x\0",
        "x = x\u{2028}import os",
        "x = \u{ff4f}s",
        "\u{212b} = x",
        "x = \"\u{e9}\"",
        "    x = x",
        " x = x",
        "x : open('f') = x",
        "x : torch.hub = x",
        "x : x = x",
        "return x; import os",
        "x = x;; y = x",
        "__builtins__ = x",
        "x = x\nimport os",
        "x = x\ndef forward(self): pass",
        "x = `x`",
        "x = x!r",
        "x = $x",
    ] {
        assert!(body(line).is_none(), "{line:?}");
    }
    let deep = format!("x = {}x{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(body(&deep).is_none());
    let deep = format!(
        "x = {}self{}",
        "getattr(".repeat(100_000),
        ", \"a\")".repeat(100_000)
    );
    assert!(body(&deep).is_none());
}

fn body(line: &str) -> Option<()> {
    let start = "from _operator import add as _operator_add\nimport torch";
    let source = format!("{start}\ndef forward(self, x, y = 1):\n    {line}\n    return x\n");
    paths(&source).map(drop)
}

#[test]
fn imports_and_headers_that_torch_does_not_generate_are_refused() {
    for start in [
        "import torch",
        "from builtins import getattr as getattr",
        "from their.model import Layer as their_model_Layer",
        "from their.model import Layer as their_model_Layer_1",
    ] {
        assert!(
            paths(&format!("{start}\ndef forward(self):\n    return 1")).is_some(),
            "{start}"
        );
    }
    for start in [
        "import os",
        "import torch, os",
        "import torch; import os",
        "import torch as x",
        "import torch.hub",
        "import torch.hub as torch_hub",
        "from torch import hub",
        "from torch import hub as torch_hub",
        "from torch.hub import load as torch_hub_load",
        "from os import system as os_system",
        "from posix import system as posix_system",
        "from builtins import exec as exec",
        "from builtins import eval as builtins_eval",
        "from builtins import __import__ as builtins___import__",
        "from their.model import Layer",
        "from their.model import Layer as torch",
        "from their.model import Layer as self",
        "from their.model import Layer as Layer",
        "from their.model import os as their_model_os",
        "from their.model import *",
        "from their.model import Layer as their_model_Layer, os",
        "from .model import Layer as _model_Layer",
        "from _ import builtins__ as __builtins__",
        "from pathlib import Path as torch",
        "from functools import partial as functools_partial",
        "x = 1",
        "x = open('f')",
        "torch.fx._symbolic_trace.wrap(\"open\")",
        "torch.fx._symbolic_trace.wrap(\"\" + open('f') + \"\")",
        "@open",
        "    import torch",
        "# coding: utf-7",
        "import torch\\",
        "class A: pass",
        "\u{feff}import torch",
    ] {
        assert!(
            paths(&format!("{start}\ndef forward(self):\n    return 1")).is_none(),
            "{start}"
        );
    }
    for header in [
        "def forward(self, x = open('f')):",
        "def forward(self, x = torch.load('f')):",
        "def forward(self, x, y = x):",
        "def forward(self, x : open('f')):",
        "def forward(self, x : torch.hub.load('f')):",
        "def forward(self, x) -> open('f'):",
        "def forward(self, x : (lambda: 1)()):",
        "def forward(x):",
        "def forward(self, torch):",
        "def forward(self): import os",
        "def forward(self): return 1",
        "def forward(self)",
        "def other(self):",
        "def forward[T](self):",
        "async def forward(self):",
        "def forward(self): # x",
        "def\tforward(self):",
    ] {
        let source = format!("import torch\n{header}\n    return 1");
        assert!(paths(&source).is_none(), "{header}");
    }
    for source in [
        "",
        "import torch",
        "import torchdef forward(self):\n    return 1",
    ] {
        assert!(paths(source).is_none(), "{source}");
    }
}
