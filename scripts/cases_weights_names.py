"""The part of fixtures_weights.py about names: --rename, --strip-prefix, their order, collisions."""

import re

from cases_weights_book import cast_all
from fixture_book import normal, small_weights


def tensors_of(*names):
    """Give a tensor of its own for each name."""
    return {name: normal(2, i + 1, seed=i) for i, name in enumerate(names)}


def renamed(tensors, *rules):
    """Rename as the rules say, by Python's re; a rule is a regex and what it gives in Python's notation."""
    made = {}
    for name, tensor in tensors.items():
        for regex, new in rules:
            name = re.sub(regex, new, name)
        assert name and name not in made
        made[name] = tensor
    return made


def stripped(tensors, *prefixes):
    """Remove prefixes one after the other."""
    made = {}
    for name, tensor in tensors.items():
        for prefix in prefixes:
            name = name.removeprefix(prefix)
        made[name] = tensor
    assert len(made) == len(tensors)
    return made


def renames(*rules):
    """Give the options for some rules."""
    return [part for rule in rules for part in ("--rename", rule)]


def prefixes(*names):
    """Give the options for some prefixes."""
    return [part for name in names for part in ("--strip-prefix", name)]


# --- --rename ---------------------------------------------------------------------------------------------


def rename_cases(book):
    """What a regex replaces, and by what."""
    file = "names_model.pt"
    tensors = tensors_of("encoder.layers.0.attn.weight", "encoder.layers.0.attn.bias", "encoder.layers.11.mlp.weight",
                         "decoder.layers.0.attn.weight", "head.weight", "head_2.bias_1")
    book.save(file, "names of an encoder, a decoder and heads", {"state_dict": tensors})
    whole = r"(?s)\A(.*)\Z"
    made = [
        ("a part of the name", ["attn=>attention"], [("attn", "attention")]),
        ("groups by number", [r"^(\w+)\.layers\.(\d+)\.=>$1.h.$2."], [(r"^(\w+)\.layers\.(\d+)\.", r"\1.h.\2.")]),
        ("groups in another order", [r"(\w+)\.(\w+)$=>${2}_of_${1}"], [(r"(\w+)\.(\w+)$", r"\2_of_\1")]),
        ("groups by name", [r"(?P<side>en|de)coder=>${side}c"], [("(en|de)coder", r"\1c")]),
        ("groups by name, in the short notation", [r"(?<side>en|de)coder=>$side/x"], [("(en|de)coder", r"\1/x")]),
        ("the whole match", [r"head=>[$0]"], [("head", "[head]")]),
        ("every match in a name", ["e=>E"], [("e", "E")]),
        ("several, each on the result of the one before", ["attn=>mlp", "mlp=>ff", "ff=>fc"],
         [("attn", "mlp"), ("mlp", "ff"), ("ff", "fc")]),
        ("a digit beside a group in braces", [r"layers\.(\d+)=>layers.${1}0"], [(r"layers\.(\d+)", r"layers.\g<1>0")]),
        ("a group that took no part is empty", [r"(encoder)?(decoder)?\.layers=>$1$2$1.x"],
         [(r"(?:(encoder)|(decoder))\.layers", lambda m: (m[1] or "") + (m[2] or "") + (m[1] or "") + ".x")]),
        ("a literal dollar", ["weight$=>w$$1"], [("weight$", "w$1")]),
        ("a dollar before no name", [r"\.layers=>.$.l"], [(r"\.layers", ".$.l")]),
        ("nothing in its place", [r"^encoder\.=>"], [(r"^encoder\.", "")]),
        ("an equals sign and an angle apart", ["head=>a=b>c"], [("head", "a=b>c")]),
        ("without regard to case", ["(?i)HEAD=>Tail"], [("head", "Tail")]),
        ("blanks around the arrow are part of both sides", [r"head\. ?=> x."], [(r"head\.", " x.")]),
        ("alternatives and repetition", [r"(layers\.\d{2}|head)=>deep"], [(r"(layers\.\d{2}|head)", "deep")]),
        ("a dot matches any character", ["a..n=>A"], [("a..n", "A")]),
        ("an empty match in every place", ["^=>net."], [("^", "net.")]),
        ("a swap through a name of its own", ["^encoder=>__swap__", "^decoder=>encoder", "^__swap__=>decoder"],
         [("^encoder", "__swap__"), ("^decoder", "encoder"), ("^__swap__", "decoder")]),
        ("unicode in the new name", ["head=>头.κεφαλή.🙂"], [("head", "头.κεφαλή.🙂")]),
        ("the whole name", [r"^(.*)$=>all.$1.end"], [(whole, r"all.\1.end")]),
    ]
    for i, (about, rules, python) in enumerate(made):
        book.expect(f"--rename: {about}", file, renamed(tensors, *python), f"names_model.{i:02}.safetensors",
                    renames(*rules))
    book.expect("--rename that matches nothing is a warning", file, tensors, args=renames("nowhere=>x"),
                mentions=["nowhere"])
    book.expect("--rename to the same name", file, tensors, args=renames(r"^(.*)$=>$1", "head=>head"))
    book.expect("--rename with a glob's star means a regex", file, tensors, args=renames(r"^head\.w*\*=>x"),
                mentions=["--rename"])


def odd_names(book):
    """Names with blanks, dots, letters of other scripts."""
    file = "names_odd.pt"
    tensors = tensors_of("größe.weight", "重み.0", "重み.10", "sp ace.w", "a..b", ".lead", "trail.", "🙂.bias", "tab\tx",
                         "new\nline", "e\u0301.x", "slash/x", "$1.y", "back\\slash")
    book.save(file, "names with blanks, dots, and letters of several scripts", {"state_dict": tensors})
    made = [
        ("letters outside of ASCII", ["ö=>oe", "ß=>ss"], [("ö", "oe"), ("ß", "ss")]),
        ("letters of any script, without regard to case", [r"(?i)^GRÖ(\w)=>x$1"], [("größ", "xß")]),
        ("a digit after a letter of another script", [r"み\.(\d+)=>み[$1]"], [(r"み\.(\d+)", r"み[\1]")]),
        ("blanks", [" =>_"], [(" ", "_")]),
        ("dots", [r"\.\.=>."], [(r"\.\.", ".")]),
        ("a line break, which a dot does not match", ["new.line=>x", r"new\nline=>y"], [(r"new\nline", "y")]),
        ("a dollar and a backslash in a name", [r"\$1=>one", r"\\=>/"], [(r"\$1", "one"), (r"\\", "/")]),
        ("a letter beyond the first plane", ["🙂=>smile"], [("🙂", "smile")]),
    ]
    for i, (about, rules, python) in enumerate(made):
        book.expect(f"--rename of odd names: {about}", file, renamed(tensors, *python), f"names_odd.{i}.safetensors",
                    renames(*rules))
    book.expect("--strip-prefix with blanks and letters of other scripts", file,
                stripped(tensors, "sp ", "größe.", "🙂", "."), "names_odd.stripped.safetensors",
                prefixes("sp ", "größe.", "🙂", "."))


def refused_rules(book):
    """Rules that are no rules."""
    file = "names_model.pt"
    made = [
        ("without an arrow", "head", ["=>"]), ("empty", "", ["=>"]),
        ("with a regex that is none", "he(ad=>x", ["--rename"]),
        ("with a class that does not end", "[a-=>x", ["--rename"]),
        ("with a group that the regex does not have", "head=>$1", ["$1"]),
        ("with the second of one group", "(head)=>$2", ["$2"]),
        ("with a group whose name goes on", "(head)=>$1_x", ["1_x"]),
        ("with a named group that the regex does not have", "(?P<a>head)=>${b}", ["b"]),
        ("with a group of Python's notation", r"(head)=>\1", ["\\1"]),
        ("with look-ahead, which the regex crate does not know", "(?=head)x=>y", ["--rename"]),
    ]
    for about, rule, mentions in made:
        book.refuse(f"a rule {about}", file, mentions, renames(rule))
    book.fail("a rule that leaves nothing of a name", file, "names", ["head.weight"], renames(r"^head\.weight$=>"))
    book.fail("a rule that leaves nothing of any name", file, "names", ["name"], renames(".=>"))
    book.fail("a rule that gives the reserved name", file, "names", ["__metadata__"],
              renames(r"^head\.weight$=>__metadata__"))


# --- --strip-prefix ---------------------------------------------------------------------------------------


def prefix_cases(book):
    """Prefixes of wrappers around a module."""
    inner = small_weights()
    for stem, prefix in (("ddp", "module."), ("compiled", "_orig_mod."), ("forward", "_forward_module."),
                         ("chain", "_orig_mod.module.")):
        file = f"names_{stem}.pt"
        tensors = {prefix + name: tensor for name, tensor in inner.items()}
        book.save(file, f"names that all start with {prefix}", {"model": tensors, "epoch": 1})
        book.expect(f"all names start with {prefix}: a hint", file, tensors, mentions=[f"--strip-prefix {prefix}"])
        book.expect(f"--strip-prefix {prefix}", file, inner, "names_bare.safetensors", prefixes(prefix))
    chain = {f"_orig_mod.module.{name}": tensor for name, tensor in inner.items()}
    file = "names_chain.pt"
    book.expect("prefixes are removed in the order of the options", file, inner, "names_bare.safetensors",
                prefixes("_orig_mod.", "module."))
    book.expect("a prefix that comes too early is not found, and that is said", file, stripped(chain, "_orig_mod."),
                "names_ddp.safetensors", prefixes("module.", "_orig_mod."), ["module."])
    twice = {f"module.module.{name}": tensor for name, tensor in inner.items()}
    book.save("names_twice.pt", "names that all start with module.module.", {"model": twice})
    book.expect("a prefix is removed once", "names_twice.pt", stripped(twice, "module."), "names_ddp.safetensors",
                prefixes("module."))
    book.expect("a prefix is removed as often as it is given", "names_twice.pt", inner, "names_bare.safetensors",
                prefixes("module.", "module."))
    mixed = tensors_of("module.a.weight", "b.module.weight", "modules.c", "module", "x.module.")
    book.save("names_mixed.pt", "some names that start with module.", {"model": mixed})
    book.expect("a prefix is removed where there is one, and nowhere else", "names_mixed.pt",
                stripped(mixed, "module."), "names_mixed.stripped.safetensors", prefixes("module."))
    book.expect("a prefix needs no dot at its end", "names_mixed.pt",
                {"s.c": mixed["modules.c"], "x.module.": mixed["x.module."]},
                "names_mixed.open.safetensors", [*prefixes("module"), "--include", "modules.c", "--include", "x.*"])
    book.expect("a prefix is no glob and no regex", "names_mixed.pt", mixed, args=prefixes("m*.", "m.dule"),
                mentions=["m*.", "m.dule"])
    book.fail("a prefix that is a whole name", "names_mixed.pt", "names", ["module"],
              ["--include", "module", *prefixes("module")])


# --- together ---------------------------------------------------------------------------------------------


def order_cases(book):
    """Selection by the input's names, then renames, then prefixes, then the cast."""
    file = "names_order.pt"
    tensors = tensors_of("module.enc.weight", "module.enc.bias", "module.dec.weight", "module.dec.bias", "extra.weight")
    book.save(file, "a wrapped encoder and decoder", {"state_dict": tensors})
    chosen = {"net.encoder.weight": tensors["module.enc.weight"]}
    options = ["--strip-prefix", "module.", "--rename", r"^module\.(enc|dec)=>module.net.${1}oder",
               "--exclude", "*.bias", "--include", "module.enc.*"]
    book.expect("include, exclude, rename and strip, whatever their order on the line", file, chosen,
                "names_order.one.safetensors", options)
    book.expect("--include looks at the names of the input", file, {"x.weight": tensors["module.enc.weight"],
                                                                    "x.bias": tensors["module.enc.bias"]},
                "names_order.included.safetensors", ["--include", "module.enc.*", "--rename", r"^module\.enc=>x"])
    book.fail("--include does not look at the names of the output", file, "selection", ["left"],
              ["--include", "x.*", "--rename", r"^module\.enc=>x"])
    book.expect("--exclude does not look at the names of the output", file,
                renamed(tensors, ("^extra", "y")), "names_order.y.safetensors",
                ["--exclude", "y.*", "--rename", "^extra=>y"])
    book.expect("a rename comes before a prefix is removed", file,
                {"enc.weight": tensors["module.enc.weight"]}, "names_order.strip.safetensors",
                ["--strip-prefix", "outer.", "--rename", "^module=>outer", "--include", "module.enc.weight"])
    half = cast_all(stripped(tensors, "module."), "bf16")
    book.expect("names and a cast", file, half, "names_order.bf16.safetensors", ["--bf16", "--strip-prefix", "module."])


def collisions(book):
    """Two tensors that would get one name."""
    file = "names_collide.pt"
    tensors = tensors_of("a.weight", "b.weight", "module.a.weight", "c.weight")
    book.save(file, "names that collide when parts are removed", {"state_dict": tensors})
    book.fail("two names become one by --rename", file, "names", ['"a.weight"', '"b.weight"', '"w"'],
              ["--include", "[ab].weight", *renames(r"^[ab]\.weight$=>w")])
    book.fail("a name becomes another by --rename", file, "names", ['"a.weight"', '"b.weight"'], renames("^b=>a"))
    book.fail("a name becomes another by --strip-prefix", file, "names", ['"module.a.weight"', '"a.weight"'],
              prefixes("module."))
    book.fail("a collision of equal tensors is one too", file, "names", ['"b.weight"', '"c.weight"'],
              [*renames("^[bc]=>d"), "--exclude", "*a.weight"])
    kept = {name: tensor for name, tensor in tensors.items() if name != "a.weight"}
    book.expect("what is excluded does not collide", file, stripped(kept, "module."), "names_collide.rest.safetensors",
                [*prefixes("module."), "--exclude", "a.weight"])
    book.expect("names that pass through one another do not collide", file,
                renamed(tensors, ("^a", "c1"), ("^c$|^c(?=[.])", "a"), ("^c1", "c")), "names_collide.swap.safetensors",
                renames("^a=>c1", r"^c\.=>a.", "^c1=>c"))


NAMES = [rename_cases, odd_names, refused_rules, prefix_cases, order_cases, collisions]
