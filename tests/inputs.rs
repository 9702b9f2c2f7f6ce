//! Inputs of a batch: lists, patterns and folders, where their outputs go, and which are refused together.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{ckpt2st, fixtures};
use tempfile::TempDir;

/// A folder with a sound checkpoint at each path.
fn tree(paths: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for path in paths {
        put(folder.path(), path);
    }
    folder
}

fn put(folder: &Path, path: impl AsRef<Path>) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(fixtures().join("zip.pt"), path).unwrap();
}

/// Copies the files of a fixture's folder, and of those inside it.
fn put_folder(fixture: &str, to: &Path) {
    let mut left = vec![(fixtures().join(fixture), to.to_path_buf())];
    while let Some((from, to)) = left.pop() {
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => left.push((entry.path(), target)),
                false => drop(fs::copy(entry.path(), target).unwrap()),
            }
        }
    }
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = ckpt2st();
    command.args(args).current_dir(folder);
    command
}

fn run(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

/// Runs a conversion that must do well.
fn converts(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
    stderr
}

/// Runs a conversion that must fail with `code` and a message, and write nothing.
fn fails(folder: &Path, args: &[&str], code: i32, mentions: &[&str]) {
    let before = outputs(folder);
    let output = run(folder, args);
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    for mention in mentions {
        assert!(stderr.contains(mention), "{args:?}: {stderr}");
    }
    assert_eq!(outputs(folder), before, "{args:?}");
}

/// Runs a conversion that reads `list` from standard input.
fn with_list(folder: &Path, list: &[u8], args: &[&str]) -> Output {
    let mut child = command(folder, args)
        .args(["--from-file", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sent = child.stdin.take().unwrap().write_all(list);
    let output = child.wait_with_output().unwrap();
    sent.unwrap();
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The safetensors files below a folder, with `/` between names.
fn outputs(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
                continue;
            }
            let path = entry.path();
            let below = path.strip_prefix(folder).unwrap();
            let below = below.to_string_lossy().replace('\\', "/");
            if below.ends_with(".safetensors") {
                found.push(below);
            }
        }
    }
    found.sort();
    found
}

/// The outputs below `out`, which are removed.
fn taken(folder: &Path) -> Vec<String> {
    let found = outputs(&folder.join("out"));
    let _ = fs::remove_dir_all(folder.join("out"));
    found
}

#[test]
fn a_list_has_an_input_on_each_line_or_before_each_nul() {
    let folder = tree(&["a.pt", "b c.pt", "d/e.ckpt"]);
    let folder = folder.path();
    for list in [
        "a.pt\nb c.pt\nd/e.ckpt\n",
        "a.pt\r\n\r\nb c.pt\r\nd/e.ckpt",
        "\u{feff}a.pt\n\n\nb c.pt\nd/e.ckpt\n\n",
        "a.pt\0b c.pt\0\0d/e.ckpt\0",
    ] {
        fs::write(folder.join("list"), list).unwrap();
        converts(folder, &["--from-file", "list", "-o", "out"]);
        assert_eq!(
            taken(folder),
            ["a.safetensors", "b c.safetensors", "d/e.safetensors"],
            "{list:?}"
        );
        let output = with_list(folder, list.as_bytes(), &["-o", "out"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(taken(folder).len(), 3, "{list:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_list_ended_by_nuls_holds_names_with_line_ends() {
    let folder = tree(&["a\nb.pt", "c.pt\r"]);
    let folder = folder.path();
    let output = with_list(folder, b"a\nb.pt\0c.pt\r\0", &["-o", "out"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(taken(folder), ["a\nb.safetensors", "c.pt\r.safetensors"]);
}

#[test]
fn a_list_works_beside_inputs_and_a_file_in_both_is_one() {
    let folder = tree(&["a.pt", "d/b.pt", "d/c.pt"]);
    let folder = folder.path();
    fs::write(folder.join("list"), "d/c.pt\n./a.pt\n").unwrap();
    let args = ["a.pt", "d/b.pt", "--from-file", "list", "-o", "out"];
    let stderr = converts(folder, &args);
    assert!(stderr.contains("3 converted"), "{stderr}");
    // Inputs on the command line keep only their names.
    let expected = ["a.safetensors", "b.safetensors", "d/c.safetensors"];
    assert_eq!(taken(folder), expected);
}

#[test]
fn a_list_without_an_output_folder_is_converted_in_place() {
    let folder = tree(&["a.pt", "d/b.pt"]);
    let output = with_list(folder.path(), b"a.pt\nd/b.pt", &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let expected = ["a.safetensors", "d/b.safetensors"];
    assert_eq!(outputs(folder.path()), expected);
}

#[test]
fn a_list_that_is_empty_or_not_there_is_wrong_usage() {
    let folder = tree(&["a.pt"]);
    let folder = folder.path();
    fs::write(folder.join("list"), "\r\n\n").unwrap();
    let list = ["--from-file", "list"];
    fails(folder, &list, 2, &["list lists no inputs"]);
    fails(folder, &["a.pt", list[0], list[1]], 2, &["lists no inputs"]);
    let gone = ["a.pt", "--from-file", "gone.txt"];
    fails(folder, &gone, 2, &["gone.txt cannot be read"]);
    fails(folder, &["--from-file", "."], 2, &[". cannot be read"]);
    let output = with_list(folder, b"", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("standard input lists no inputs"));
    fails(folder, &[], 2, &["INPUT"]);
}

#[test]
fn a_list_that_is_too_long_is_told_with_the_limit() {
    let folder = tree(&[]);
    let list = fs::File::create(folder.path().join("list")).unwrap();
    list.set_len((128 << 20) + 1).unwrap();
    let args = ["--from-file", "list"];
    fails(folder.path(), &args, 2, &["longer than 128 MiB"]);
}

#[test]
fn a_bad_entry_of_a_list_does_not_stop_the_rest() {
    let folder = tree(&["a.pt", "b.pt"]);
    let output = with_list(folder.path(), b"a.pt\ngone.pt\nb.pt", &["-o", "out"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = stderr(&output);
    assert!(stderr.contains("gone.pt"), "{stderr}");
    assert!(
        stderr.contains("2 converted, 0 skipped, 1 failed"),
        "{stderr}"
    );
}

#[test]
fn entries_of_a_list_keep_their_path_as_it_is_written() {
    let folder = tree(&["in/x/a.pt", "in/y/a.pt", "b.pt", "z/c.pt"]);
    let folder = folder.path().canonicalize().unwrap();
    let inside = folder.join("in");
    let absolute = folder.join("z/c.pt");
    let list = format!("./x/a.pt\ny//./a.pt\n../b.pt\n{}\n", absolute.display());
    let output = with_list(&inside, list.as_bytes(), &["-o", "../out"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let names = folder.components().filter_map(|part| match part {
        std::path::Component::Normal(name) => Some(name.to_str().unwrap()),
        _ => None,
    });
    let own = names.collect::<Vec<_>>().join("/");
    let mut expected = [
        "x/a.safetensors".to_owned(),
        "y/a.safetensors".to_owned(),
        format!("{own}/b.safetensors"),
        format!("{own}/z/c.safetensors"),
    ];
    expected.sort();
    assert_eq!(taken(&folder), expected);
}

#[test]
fn a_list_holds_folders_patterns_and_checkpoints_of_several_files() {
    let folder = tree(&[
        "runs/1/deep/a.pt",
        "runs/1/b.pt",
        "more/p/c.pt",
        "more/q/c.pt",
    ]);
    let folder = folder.path();
    put_folder("distributed/nested", &folder.join("runs/dcp"));
    put_folder("distributed/nested", &folder.join("runs/other"));
    put_folder("distributed/three", &folder.join("runs/sharded"));
    put_folder("distributed/three", &folder.join("runs/index"));
    put_folder("deepspeed/zero2_fp32", &folder.join("runs/zero"));
    let list = "runs/1\nruns/dcp\nruns/other/.metadata\nruns/sharded\n\
                runs/index/pytorch_model.bin.index.json\nruns/zero/\nmore/*/c.pt\n";
    let output = with_list(folder, list.as_bytes(), &["-o", "out"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut expected = vec![
        "more/p/c.safetensors".to_owned(),
        "more/q/c.safetensors".to_owned(),
        "runs/1/b.safetensors".to_owned(),
        "runs/dcp.safetensors".to_owned(),
        "runs/other.safetensors".to_owned(),
        "runs/zero.safetensors".to_owned(),
    ];
    for name in ["sharded", "index"] {
        let shard = |number| format!("runs/{name}/model-0000{number}-of-00003.safetensors");
        expected.extend((1..=3).map(shard));
    }
    expected.sort();
    assert_eq!(taken(folder), expected);
    let output = with_list(folder, b"runs/1", &["-r", "-o", "out"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let expected = ["runs/1/b.safetensors", "runs/1/deep/a.safetensors"];
    assert_eq!(taken(folder), expected);
}

#[test]
fn the_folder_one_stands_in_keeps_its_name_in_a_list() {
    let folder = tempfile::tempdir().unwrap();
    put_folder("distributed/nested", &folder.path().join("run"));
    put_folder("distributed/three", &folder.path().join("sharded"));
    for list in [&b"."[..], b".metadata", b"./.metadata"] {
        let output = with_list(&folder.path().join("run"), list, &["-o", "../out"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(taken(folder.path()), ["run.safetensors"]);
    }
    let output = with_list(&folder.path().join("sharded"), b".", &["-o", "../out"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(taken(folder.path())[0], "model-00001-of-00003.safetensors");
}

#[test]
fn a_pattern_is_expanded_where_no_shell_did() {
    let paths = [
        "c/a.ckpt",
        "c/b.pt",
        "c/E.PT",
        "c/x/d.ckpt",
        "c/x/y/e.ckpt",
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
        ("c/*", &["E", "a", "b"]),
        ("c/**/x/*", &["x/d"]),
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
    let stderr = converts(folder, &["**/*.pt", "-o", "out"]);
    let inputs = stderr.lines().filter_map(|line| line.split_once(" -> "));
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
fn a_pattern_that_is_no_glob_is_wrong_usage() {
    let folder = tree(&["a.ckpt"]);
    for pattern in ["[a.ckpt", "{a,b.ckpt", "x/[z-a]/*"] {
        let mentions = ["as a pattern it is wrong", pattern];
        fails(folder.path(), &["a.ckpt", pattern], 2, &mentions);
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

#[test]
fn the_structure_below_a_named_folder_is_kept() {
    let folder = tree(&["in/a.pt", "in/x/y/b.pt", "other/x/c.pt"]);
    let folder = folder.path();
    converts(folder, &["-r", "in", "./other/", "-o", "out"]);
    let expected = ["a.safetensors", "x/c.safetensors", "x/y/b.safetensors"];
    assert_eq!(taken(folder), expected);
}

#[test]
fn inputs_with_one_output_are_refused_before_any_work_and_counted() {
    let folder = tree(&[
        "x/a.pt", "y/a.pt", "z/a.ckpt", "z/b.pt", "x/b.pt", "z/b.ckpt",
    ]);
    let folder = folder.path();
    let two = ["x/a.pt", "y/a.pt", "-o", "out"];
    fails(
        folder,
        &two,
        2,
        &[
            "x/a.pt and y/a.pt would both",
            "-r on the folder",
            "--from-file",
        ],
    );
    let pattern = ["x/a.pt", "y/*.pt", "z/a.ckpt", "-o", "out"];
    fails(folder, &pattern, 2, &["and one more pair of inputs has"]);
    let many = ["x", "y", "z", "-o", "out"];
    fails(folder, &many, 2, &["and 3 more pairs of inputs have"]);
    // Where structure does not help.
    let beside = ["-r", ".", "-o", "out"];
    fails(
        folder,
        &beside,
        2,
        &["b.ckpt and", "b.pt would", "convert one of them by itself"],
    );
    fs::remove_file(folder.join("z/b.ckpt")).unwrap();
    assert_eq!(outputs(folder), [""; 0]);
    converts(folder, &beside);
    assert_eq!(taken(folder).len(), 5);
}

#[test]
fn a_shard_of_one_output_is_no_output_of_another_input() {
    let folder = tree(&["a.pt", "a-00001-of-00002.pt", "a-x-of-y.pt"]);
    let folder = folder.path();
    let size = ["--max-shard-size", "1GB"];
    let args = ["a.pt", "a-00001-of-00002.pt", size[0], size[1]];
    let mentions = ["a-00001-of-00002.pt, and may be", "shard of a.pt too"];
    fails(folder, &args, 2, &mentions);
    converts(folder, &["a.pt", "a-x-of-y.pt", size[0], size[1]]);
}

#[test]
fn outputs_in_folders_that_are_not_there_yet_are_compared_as_well() {
    let folder = tree(&["a.pt", "in/a.ckpt"]);
    let folder = folder.path();
    let args = ["a.pt", "in", "--overwrite", "-o", "new/../deep/out"];
    fails(folder, &args, 2, &["would both be written"]);
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    /// A folder with two checkpoints whose names differ in bytes that are not valid UTF-8; none where the file
    /// system has no such names.
    fn invalid() -> Option<(TempDir, [PathBuf; 2])> {
        let folder = tempfile::tempdir().unwrap();
        let names = [&b"\xffa.pt"[..], b"\xfea.pt"];
        let paths = names.map(|name| folder.path().join(OsStr::from_bytes(name)));
        for path in &paths {
            fs::copy(fixtures().join("zip.pt"), path).ok()?;
        }
        Some((folder, paths))
    }

    #[test]
    fn names_that_are_not_unicode_are_inputs_like_others() {
        let Some((folder, _)) = invalid() else {
            return;
        };
        let folder = folder.path();
        let expected = [&b"\xfea.safetensors"[..], b"\xffa.safetensors"];
        let are_there = || {
            for name in expected {
                let path = folder.join("out").join(OsStr::from_bytes(name));
                fs::remove_file(path).unwrap();
            }
        };
        for pattern in ["*.pt", "?a.pt", "*"] {
            converts(folder, &[pattern, "-o", "out"]);
            are_there();
        }
        let output = with_list(folder, b"\xffa.pt\n\xfea.pt\n", &["-o", "out"]);
        assert!(output.status.success(), "{}", stderr(&output));
        are_there();
    }

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
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }

    #[test]
    fn names_that_are_not_unicode_do_not_become_one_name_of_shards() {
        let Some((folder, paths)) = invalid() else {
            return;
        };
        put(folder.path(), "b.pt");
        let output = ckpt2st()
            .args(&paths)
            .arg(folder.path().join("b.pt"))
            .args(["--max-shard-size", "1GB"])
            .output()
            .unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("not valid UTF-8"), "{text}");
        assert!(text.contains("1 converted, 0 skipped, 2 failed"), "{text}");
        assert_eq!(outputs(folder.path()), ["b.safetensors"]);
        let output = ckpt2st()
            .arg(&paths[0])
            .args(["--max-shard-size", "1GB", "-o"])
            .arg(folder.path().join("c.safetensors"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }

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

    #[test]
    fn folders_around_an_output_may_be_spelled_through_a_link() {
        let folder = tree(&["x/a.pt"]);
        let folder = folder.path();
        symlink("x", folder.join("y")).unwrap();
        let list = b"x/a.pt\ny/a.pt";
        let output = with_list(folder, list, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(outputs(folder), ["x/a.safetensors"]);
    }

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
}
