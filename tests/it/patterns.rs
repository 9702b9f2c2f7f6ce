//! Patterns that no shell expanded, and walks through folders: what they take.

use std::fs;
#[cfg(unix)]
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, os::unix::fs::symlink};

use crate::common::tree::{converts, fails, put, put_folder, run, stderr, taken, tree};
#[cfg(unix)]
use crate::common::{
    ckpt2st,
    tree::{outputs, with_list},
};

#[test]
fn a_pattern_is_expanded_where_no_shell_did() {
    let paths = [
        "c/a.ckpt",
        "c/b.pt",
        "c/E.PT",
        "c/x/d.ckpt",
        "c/x/y/e.ckpt",
        "c/x/n",
        "c/f.txt",
    ];
    let folder = tree(&paths);
    let folder = folder.path();
    for (pattern, expected) in [
        ("c/*.ckpt", &["a"][..]),
        ("c/*/*.ckpt", &["x/d"]),
        ("c/**/*.ckpt", &["a", "x/d", "x/y/e"]),
        ("c/x/**", &["d", "y/e"]),
        ("c/{a.ckpt,x/d.ckpt}", &["a", "x/d"]),
        ("c/[ab].{ckpt,pt}", &["a", "b"]),
        ("c/?.ckpt", &["a"]),
        ("./c/*.ckpt", &["a"]),
        // Files whose end the pattern says are named; others are taken as in a folder.
        ("c/*.txt", &["f.txt"]),
        ("c/*.{txt,foo}", &["f.txt"]),
        ("c/{b.pt,f.txt}", &["b", "f.txt"]),
        ("c/*/n", &["x/n"]),
        ("c/*", &["E", "a", "b"]),
        ("c/**/x/*", &["x/d"]),
        ("c/**", &["E", "a", "b", "x/d", "x/y/e"]),
        ("c/*t*", &["a", "b"]),
        ("c/*.[pt]*t", &["b"]),
        ("c/{*.pt,*.txt}", &["b"]),
    ] {
        converts(folder, &[pattern, "-o", "out/"]);
        let expected: Vec<String> = expected
            .iter()
            .map(|e| format!("{e}.safetensors"))
            .collect();
        assert_eq!(taken(folder), expected, "{pattern}");
    }
}

#[test]
fn matches_of_a_pattern_come_in_the_order_of_their_names() {
    let folder = tree(&["b.pt", "a/z.pt", "a.pt", "c/a.pt"]);
    let folder = folder.path();
    // Lines come as files are done, plans in order.
    let output = run(folder, &["**/*.pt", "-o", "out", "--dry-run"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let inputs = stdout.lines().filter_map(|line| line.split_once(" -> "));
    let inputs: Vec<&str> = inputs.map(|(input, _)| input).collect();
    assert_eq!(inputs, ["a/z.pt", "a.pt", "b.pt", "c/a.pt"]);
}

#[test]
fn a_pattern_with_one_match_that_it_names_is_one_input() {
    let folder = tree(&["a.ckpt"]);
    let folder = folder.path();
    converts(folder, &["*.ckpt", "-o", "out/one.safetensors"]);
    assert_eq!(taken(folder), ["one.safetensors"]);
    let args = ["a*", "-o", "out/one.safetensors"];
    fails(folder, &args, 2, &["may be", "name a folder"]);
    put(folder, "b.ckpt");
    let args = ["*.ckpt", "-o", "out/one.safetensors"];
    fails(folder, &args, 2, &["several inputs"]);
}

#[test]
fn a_pattern_without_a_match_is_an_error_of_that_input_alone() {
    let folder = tree(&["a.ckpt", "x/sub/b.pt"]);
    let folder = folder.path();
    for pattern in ["*.pth", "gone/*.ckpt", "a.ckpt/*", "x/*.pt", "*/../a.ckpt"] {
        fails(folder, &[pattern], 1, &[pattern, "matches no checkpoint"]);
    }
    fails(folder, &["x/*"], 1, &["/** looks into them"]);
    let output = run(folder, &["*.pth", "a.ckpt", "-o", "out"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(taken(folder), ["a.safetensors"]);
}

#[test]
fn a_pattern_that_is_no_glob_fails_and_keeps_nothing_else_from_work() {
    let folder = tree(&["a.ckpt"]);
    let nested = format!("{}a{}.ckpt", "{".repeat(400), "}".repeat(400));
    for pattern in ["[a.ckpt", "{a,b.ckpt", "x/[z-a]/*", &nested] {
        let output = run(folder.path(), &["a.ckpt", pattern, "-o", "out/"]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let stderr = stderr(&output);
        assert!(stderr.contains("as a pattern it is wrong"), "{stderr}");
        assert_eq!(taken(folder.path()), ["a.safetensors"]);
    }
}

#[cfg(unix)]
#[test]
fn a_name_that_exists_is_no_pattern() {
    let folder = tree(&["[a].pt", "a.pt", "*.pt"]);
    let folder = folder.path();
    converts(folder, &["[a].pt", "*.pt", "-o", "out"]);
    assert_eq!(taken(folder), ["*.safetensors", "[a].safetensors"]);
    converts(folder, &["\\**.pt", "-o", "out/"]);
    assert_eq!(taken(folder), ["*.safetensors"]);
}

#[test]
fn names_with_a_leading_dot_match_only_where_the_pattern_has_it() {
    let folder = tree(&["a.pt", ".b.pt", ".trash/c.pt", "._a.pt"]);
    let folder = folder.path();
    for (pattern, expected) in [
        ("**/*.pt", "a.safetensors"),
        (".b*.pt", ".b.safetensors"),
        (".t*/*.pt", ".trash/c.safetensors"),
    ] {
        converts(folder, &[pattern, "-o", "out/"]);
        assert_eq!(taken(folder), [expected], "{pattern}");
    }
}

#[test]
fn a_pattern_matches_folders_that_are_one_checkpoint() {
    let folder = tree(&["runs/plain/a.pt"]);
    let folder = folder.path();
    for name in ["dcp", "epoch.ckpt"] {
        put_folder("distributed/nested", &folder.join("runs").join(name));
    }
    put_folder("distributed/three", &folder.join("runs/sharded"));
    fs::remove_file(folder.join("runs/sharded/training_args.bin")).unwrap();
    let whole = ["dcp.safetensors", "epoch.safetensors"];
    let shards = (1..=3).map(|n| format!("sharded/model-0000{n}-of-00003.safetensors"));
    let shards: Vec<String> = shards.collect();
    for (pattern, expected) in [
        ("runs/*", [&whole.map(str::to_owned)[..], &shards].concat()),
        ("runs/*.ckpt", vec![whole[1].to_owned()]),
        ("runs/*/.metadata", whole.map(str::to_owned).to_vec()),
        ("runs/*/*.index.json", shards.clone()),
        ("runs/d*/", vec![whole[0].to_owned()]),
    ] {
        converts(folder, &[pattern, "-o", "out/"]);
        assert_eq!(taken(folder), expected, "{pattern}");
    }
    // With what `**` matches inside, but not the parts of the checkpoints.
    let stderr = converts(folder, &["runs/**", "-o", "out/"]);
    assert!(stderr.contains("4 converted"), "{stderr}");
    assert!(taken(folder).contains(&"plain/a.safetensors".to_owned()));
}

#[test]
fn attributes_that_macos_puts_beside_files_are_passed_over_in_a_walk() {
    let folder = tree(&["in/a.pt", "in/d/b.pt"]);
    let folder = folder.path();
    for name in ["in/._a.pt", "in/d/._b.pt"] {
        fs::write(folder.join(name), b"\x00\x05\x16\x07").unwrap();
    }
    for args in [["-r", "in"], ["-q", "in/**"]] {
        converts(folder, &[args[0], args[1], "-o", "out"]);
        assert_eq!(taken(folder), ["a.safetensors", "d/b.safetensors"]);
    }
    fails(folder, &["in/._a.pt"], 1, &["._a.pt"]);
}

#[test]
fn a_walk_takes_all_known_endings_in_any_case_and_nothing_else() {
    let known = [
        "a.ckpt",
        "b.PT",
        "c.pth",
        "d.Bin",
        "e.pkl",
        "f.pth.TAR",
        "g.ptl",
        "h.pt2",
    ];
    let folder = tree(&known);
    let folder = folder.path();
    for other in ["i.txt", "j.tar", "pt", "k.pt.gz", "l.safetensor"] {
        put(folder, other);
    }
    converts(folder, &[".", "-o", "out"]);
    let stems: Vec<char> = taken(folder)
        .iter()
        .filter_map(|n| n.chars().next())
        .collect();
    assert_eq!(stems, ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']);
    converts(folder, &["k.pt.gz", "-o", "out/"]);
    assert_eq!(taken(folder), ["k.pt.gz.safetensors"]);
}

#[cfg(unix)]
#[test]
fn a_pattern_below_a_folder_that_is_not_unicode_is_expanded() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join(OsStr::from_bytes(b"d\xff"));
    if fs::create_dir(&odd).is_err() {
        return;
    }
    put(&odd, "a.pt");
    let mut args = odd.clone().into_os_string();
    args.push("/*.pt");
    let output = ckpt2st().arg(args).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(outputs(&odd), ["a.safetensors"]);
    let pattern = OsStr::from_bytes(b"*\xff.pt");
    let output = ckpt2st().arg(pattern).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn links_that_lead_back_end_a_walk() {
    let folder = tree(&["in/a.pt", "in/d/b.pt"]);
    let folder = folder.path();
    symlink("..", folder.join("in/d/up")).unwrap();
    symlink(".", folder.join("in/self")).unwrap();
    symlink("loop.pt", folder.join("in/loop.pt")).unwrap();
    for args in [["-r", "in"], ["-q", "in/**"], ["-q", "in/**/*.pt"]] {
        converts(folder, &[args[0], args[1], "-o", "out"]);
        assert_eq!(taken(folder), ["a.safetensors", "d/b.safetensors"]);
    }
    fails(folder, &["in/loop.pt"], 1, &["loop.pt"]);
}

#[cfg(unix)]
#[test]
fn a_link_to_a_folder_is_followed_only_when_it_is_named() {
    let folder = tree(&["in/a.pt", "far/b.pt"]);
    let folder = folder.path();
    put_folder("distributed/nested", &folder.join("dcp"));
    symlink("../far", folder.join("in/link")).unwrap();
    symlink("../dcp", folder.join("in/last")).unwrap();
    converts(folder, &["-r", "in", "-o", "out"]);
    assert_eq!(taken(folder), ["a.safetensors"]);
    converts(folder, &["in/**", "-o", "out"]);
    assert_eq!(taken(folder), ["a.safetensors"]);
    converts(folder, &["in/link", "in/last", "-o", "out"]);
    assert_eq!(taken(folder), ["b.safetensors", "last.safetensors"]);
    converts(folder, &["i*/last", "-o", "out/"]);
    assert_eq!(taken(folder), ["in/last.safetensors"]);
    let output = with_list(folder, b"in/link", &["-o", "out"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(taken(folder), ["in/link/b.safetensors"]);
}

#[cfg(unix)]
#[test]
fn folders_nested_deeper_than_a_path_can_be_long_are_an_error_of_theirs() {
    let folder = tree(&["in/z.pt"]);
    let folder = folder.path();
    let name = "d".repeat(200);
    // Each half fits into a path, both together do not.
    let half = |above: &str| {
        let mut path = folder.join(above);
        for _ in 0..15 {
            path.push(&name);
        }
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (upper, lower) = (half("in"), half("lower"));
    fs::rename(folder.join("lower"), upper.join("lower")).unwrap();
    drop(lower);
    for args in [["-r", "in"], ["-q", "in/**"]] {
        let output = run(folder, &[args[0], args[1], "-o", "out"]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("too long"), "{text}");
        assert_eq!(taken(folder), ["z.safetensors"]);
    }
}
