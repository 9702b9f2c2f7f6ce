//! Inputs of a batch: lists, where outputs go, and which inputs are refused together.

use std::fs;
#[cfg(unix)]
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, os::unix::fs::symlink, path::PathBuf};

use ckpt2st::same_place;
#[cfg(unix)]
use tempfile::TempDir;

use crate::common::tree::{
    converts, fails, outputs, put, put_folder, stderr, taken, tree, with_list,
};
#[cfg(unix)]
use crate::common::{ckpt2st, fixtures};

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
    // The last one is not ended.
    for list in [&b"a\nb.pt\0c.pt\r\0\0"[..], b"a\nb.pt\0c.pt\r"] {
        let output = with_list(folder, list, &["-o", "out", "--overwrite"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(taken(folder), ["a\nb.safetensors", "c.pt\r.safetensors"]);
    }
}

#[cfg(unix)]
#[test]
fn a_list_holds_names_with_spaces_around_them_and_bytes_that_are_no_unicode() {
    let folder = tree(&[" a .pt"]);
    let folder = folder.path();
    put(folder, OsStr::from_bytes(b"\xff.pt"));
    let output = with_list(folder, b"\xef\xbb\xbf a .pt\n\xff.pt\n", &["-o", "out"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let written = |name: &[u8]| folder.join("out").join(OsStr::from_bytes(name)).is_file();
    assert!(written(b" a .safetensors") && written(b"\xff.safetensors"));
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
fn a_list_holds_folders_and_checkpoints_of_several_files_and_no_patterns() {
    let folder = tree(&[
        "runs/1/deep/a.pt",
        "runs/1/b.pt",
        "more/m[1].pt",
        "more/m1.pt",
    ]);
    let folder = folder.path();
    put_folder("distributed/nested", &folder.join("runs/dcp"));
    put_folder("distributed/nested", &folder.join("runs/other"));
    put_folder("distributed/three", &folder.join("runs/sharded"));
    put_folder("distributed/three", &folder.join("runs/index"));
    put_folder("deepspeed/zero2_fp32", &folder.join("runs/zero"));
    let list = "runs/1\nruns/dcp\nruns/other/.metadata\nruns/sharded\n\
                runs/index/pytorch_model.bin.index.json\nruns/zero/\nmore/m[1].pt\n";
    let output = with_list(folder, list.as_bytes(), &["-o", "out"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut expected = vec![
        "more/m[1].safetensors".to_owned(),
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
    // A name in a list that is gone is not one for others, and keeps nobody from work.
    fs::remove_file(folder.join("more/m[1].pt")).unwrap();
    let output = with_list(folder, b"more/m[1].pt\0more/m[\0more/m1.pt", &["-o", "out"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(taken(folder), ["more/m1.safetensors"]);
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
fn a_place_that_is_not_there_yet_is_the_same_for_all_spellings() {
    let folder = tree(&["x/a.pt"]);
    let folder = folder.path();
    let place = same_place(&folder.join("x/new/deep/b.pt"));
    assert!(place.starts_with(folder.canonicalize().unwrap()));
    #[cfg(unix)]
    symlink("x", folder.join("y")).unwrap();
    #[cfg(unix)]
    assert_eq!(same_place(&folder.join("y/new/deep/b.pt")), place);
    for spelling in ["x/../x/new/deep/b.pt", "./x//new/other/../deep/b.pt"] {
        assert_eq!(same_place(&folder.join(spelling)), place, "{spelling}");
    }
    assert_ne!(same_place(&folder.join("x/new/b.pt")), place);
}

/// A folder with two checkpoints whose names differ in bytes that are not valid UTF-8; none where the file
/// system has no such names.
#[cfg(unix)]
fn invalid() -> Option<(TempDir, [PathBuf; 2])> {
    let folder = tempfile::tempdir().unwrap();
    let names = [&b"\xffa.pt"[..], b"\xfea.pt"];
    let paths = names.map(|name| folder.path().join(OsStr::from_bytes(name)));
    for path in &paths {
        fs::copy(fixtures().join("zip.pt"), path).ok()?;
    }
    Some((folder, paths))
}

#[cfg(unix)]
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

#[cfg(unix)]
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

#[cfg(unix)]
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
fn the_last_known_suffix_of_an_input_is_replaced() {
    for (input, output) in [
        ("model.ckpt", "model.safetensors"),
        ("a/x.pth.tar", "a/x.safetensors"),
        ("pytorch_model.v1.bin", "pytorch_model.v1.safetensors"),
        ("MODEL.CKPT", "MODEL.safetensors"),
        ("weights", "weights.safetensors"),
        ("weights.v2", "weights.v2.safetensors"),
        (".ckpt", ".ckpt.safetensors"),
    ] {
        let folder = tree(&[input]);
        converts(folder.path(), &[input]);
        assert_eq!(outputs(folder.path()), [output]);
    }
}
