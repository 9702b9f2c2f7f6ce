//! Checkpoints of several files: where their outputs go, and that all of them appear or none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;

use crate::common::{ckpt2st, fixtures, leftovers};

/// A folder with a copy of a fixture's folder, called `model`, in it.
fn copy_of(fixture: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    copy(&fixtures().join(fixture), &model);
    (folder, model)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn names(folder: &Path, end: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(end)).collect();
    names.sort();
    names
}

fn run(input: &Path, args: &[&str]) -> Output {
    let output = ckpt2st().arg(input).args(args).output().unwrap();
    assert_eq!(leftovers(input.parent().unwrap()), 0);
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const SHARDS: [&str; 3] = [
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
];
const INDEX: &str = "model.safetensors.index.json";

#[test]
fn shards_are_written_beside_their_index() {
    let (_folder, model) = copy_of("distributed/three");
    for input in [model.clone(), model.join("pytorch_model.bin.index.json")] {
        let output = run(&input, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("in 3 files"),
            "{}",
            stderr(&output)
        );
        assert_eq!(names(&model, ".safetensors"), SHARDS);
        for name in SHARDS.iter().chain([&INDEX]) {
            let expected = fixtures().join("distributed/three.out").join(name);
            let path = model.join(name);
            assert_eq!(
                fs::read(&path).unwrap(),
                fs::read(expected).unwrap(),
                "{name}"
            );
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn one_existing_shard_keeps_all_others_from_being_written() {
    let (_folder, model) = copy_of("distributed/three");
    fs::write(model.join(SHARDS[1]), "mine").unwrap();
    let output = run(&model, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(SHARDS[1]), "{}", stderr(&output));
    assert_eq!(names(&model, ".safetensors"), [SHARDS[1]]);
    assert_eq!(fs::read(model.join(SHARDS[1])).unwrap(), b"mine");
    assert!(!model.join(INDEX).exists());

    assert!(run(&model, &["--overwrite"]).status.success());
    assert_eq!(names(&model, ".safetensors"), SHARDS);
}

#[test]
fn a_bad_shard_leaves_no_output_at_all() {
    let (_folder, model) = copy_of("distributed/three");
    let last = model.join("pytorch_model-00003-of-00003.bin");
    let mut bytes = fs::read(&last).unwrap();
    // Inside the last storage: only its checksum tells.
    let data = bytes.windows(6).rposition(|w| w == b"data/0").unwrap();
    let start = bytes[..data].len().saturating_sub(64);
    for byte in &mut bytes[start - 40..start - 36] {
        *byte ^= 0xff;
    }
    fs::write(&last, bytes).unwrap();
    let output = run(&model, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("pytorch_model-00003-of-00003.bin"),
        "{}",
        stderr(&output)
    );
    assert_eq!(names(&model, ".safetensors"), [""; 0]);
    assert_eq!(leftovers(&model), 0);
}

#[test]
fn a_finished_index_is_skipped_when_asked() {
    let (_folder, model) = copy_of("distributed/three");
    assert!(run(&model, &[]).status.success());
    let output = run(&model, &["--skip-existing"]);
    assert!(output.status.success());
    assert!(stderr(&output).contains("skipped"), "{}", stderr(&output));
}

#[test]
fn a_distributed_checkpoint_is_written_beside_its_folder() {
    let (folder, model) = copy_of("distributed/nested");
    for input in [model.clone(), model.join(".metadata")] {
        let output = run(&input, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        let target = folder.path().join("model.safetensors");
        let expected = fixtures().join("distributed/nested.safetensors");
        assert_eq!(fs::read(&target).unwrap(), fs::read(expected).unwrap());
        fs::remove_file(target).unwrap();
    }
    // From inside the folder, which has no name then.
    let inside = ckpt2st().arg(".").current_dir(&model).output().unwrap();
    assert!(inside.status.success(), "{}", stderr(&inside));
    assert_eq!(names(folder.path(), ".safetensors"), ["model.safetensors"]);
}

#[test]
fn a_walk_takes_each_folder_that_is_a_checkpoint_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    copy(&fixtures().join("distributed/three"), &tree.join("sharded"));
    // Settings, which hold no tensors.
    fs::remove_file(tree.join("sharded/training_args.bin")).unwrap();
    copy(&fixtures().join("distributed/nested"), &tree.join("a/dcp"));
    copy(&fixtures().join("deepspeed/zero2_fp32"), &tree.join("zero"));
    fs::copy(fixtures().join("zip.pt"), tree.join("plain.pt")).unwrap();
    let out = folder.path().join("out");
    let output = ckpt2st()
        .args(["-r", "-o"])
        .arg(&out)
        .arg(&tree)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("4 converted"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        names(&out, ".safetensors"),
        ["plain.safetensors", "zero.safetensors"]
    );
    assert_eq!(names(&out.join("a"), ""), ["dcp.safetensors"]);
    assert_eq!(names(&out.join("sharded"), ".safetensors"), SHARDS);
}

#[test]
fn a_folder_that_is_two_checkpoints_is_refused_until_one_is_named() {
    let (_folder, model) = copy_of("distributed/three");
    copy(&fixtures().join("distributed/nested"), &model);
    let output = run(&model, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    for name in [".metadata", "pytorch_model.bin.index.json"] {
        assert!(stderr(&output).contains(name), "{}", stderr(&output));
    }
    assert!(run(&model.join(".metadata"), &[]).status.success());
}

#[test]
fn no_file_of_the_input_is_ever_a_target() {
    for (fixture, target) in [
        ("distributed/grid", "__0_0.distcp"),
        ("distributed/grid", ".metadata"),
        ("distributed/legacy", "pytorch_model-00001-of-00002.bin"),
        (
            "deepspeed/zero2_fp32",
            "global_step1/mp_rank_00_model_states.pt",
        ),
    ] {
        let (_folder, model) = copy_of(fixture);
        let target = model.join(target);
        let before = fs::read(&target).unwrap();
        let args = ["--overwrite", "-o", target.to_str().unwrap()];
        let output = run(&model, &args);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("input itself"),
            "{}",
            stderr(&output)
        );
        assert_eq!(fs::read(&target).unwrap(), before);
    }
    // A shard that is called as the output's index would be.
    let (_folder, model) = copy_of("distributed/three");
    let shard = model.join(INDEX);
    let name = "pytorch_model-00001-of-00003.bin";
    fs::rename(model.join(name), &shard).unwrap();
    let index = model.join("pytorch_model.bin.index.json");
    let text = fs::read_to_string(&index).unwrap().replace(name, INDEX);
    fs::write(&index, text).unwrap();
    let before = fs::read(&shard).unwrap();
    let output = run(&index, &["--overwrite"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(fs::read(&shard).unwrap(), before);
    // Shards that are called as their own outputs would be.
    let (_folder, model) = copy_of("distributed/three");
    let index = model.join("pytorch_model.bin.index.json");
    let mut text = fs::read_to_string(&index).unwrap();
    for (number, output) in SHARDS.iter().enumerate() {
        let name = format!("pytorch_model-0000{}-of-00003.bin", number + 1);
        fs::rename(model.join(&name), model.join(output)).unwrap();
        text = text.replace(&name, output);
    }
    fs::write(&index, text).unwrap();
    let before = fs::read(model.join(SHARDS[0])).unwrap();
    let output = run(&index, &["--overwrite"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(fs::read(model.join(SHARDS[0])).unwrap(), before);
}

#[test]
fn one_bad_folder_does_not_stop_a_walk() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    copy(
        &fixtures().join("distributed/x_metadata_gone"),
        &tree.join("bad"),
    );
    fs::copy(fixtures().join("zip.pt"), tree.join("good.pt")).unwrap();
    let output = run(&tree, &["-r"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("1 converted, 0 skipped, 1 failed"),
        "{}",
        stderr(&output)
    );
    assert!(tree.join("good.safetensors").exists());
}

#[test]
fn what_lies_beside_a_checkpoint_in_its_folder_is_named_or_converted_too() {
    let (_folder, model) = copy_of("distributed/three");
    fs::copy(fixtures().join("zip.pt"), model.join("extra.pt")).unwrap();
    fs::create_dir(model.join("checkpoint-5")).unwrap();
    fs::copy(
        fixtures().join("zip.pt"),
        model.join("checkpoint-5/inner.pt"),
    )
    .unwrap();
    let output = run(&model, &[]);
    assert!(output.status.success());
    assert!(
        stderr(&output).contains("not converted: extra.pt, training_args.bin"),
        "{}",
        stderr(&output)
    );
    fs::remove_file(model.join("training_args.bin")).unwrap();
    let output = run(&model, &["-r", "--overwrite"]);
    assert!(
        stderr(&output).contains("3 converted"),
        "{}",
        stderr(&output)
    );
    for path in ["extra.safetensors", "checkpoint-5/inner.safetensors"] {
        assert!(model.join(path).exists(), "{path}");
    }
}

#[test]
fn whole_weights_beside_the_states_of_a_training_are_what_is_meant() {
    let (_folder, model) = copy_of("distributed/three");
    copy(&fixtures().join("deepspeed/zero2_fp32"), &model);
    let output = run(&model, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(names(&model, ".safetensors"), SHARDS);
}

#[test]
fn a_file_is_converted_once_and_a_target_written_once_however_they_are_spelled() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["x.pt", "x.ckpt"] {
        fs::copy(fixtures().join("zip.pt"), folder.path().join(name)).unwrap();
    }
    let run = |args: &[&str]| {
        ckpt2st()
            .args(args)
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let output = run(&["x.pt", "./x.ckpt", "--overwrite"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let output = run(&["x.pt", "./x.pt"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_sharded_output_that_lost_a_part_is_made_again() {
    let (_folder, model) = copy_of("distributed/three");
    assert!(run(&model, &[]).status.success());
    let whole = SHARDS.map(|shard| fs::read(model.join(shard)).unwrap());
    let damages: [&dyn Fn(); 4] = [
        &|| fs::remove_file(model.join(SHARDS[1])).unwrap(),
        &|| fs::write(model.join(SHARDS[2]), &whole[2][..20]).unwrap(),
        &|| fs::write(model.join(INDEX), "{\"weight_map\": {}}").unwrap(),
        // As after a kill between the shards and the index.
        &|| fs::remove_file(model.join(INDEX)).unwrap(),
    ];
    for damage in damages {
        damage();
        let output = run(&model, &["--skip-existing"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(model.join(INDEX).exists());
        let again = SHARDS.map(|shard| fs::read(model.join(shard)).unwrap());
        assert!(again == whole);
    }
    let output = run(&model, &["--skip-existing"]);
    assert!(stderr(&output).contains("skipped"), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn a_link_has_an_output_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixtures().join("zip.pt"), folder.path().join("epoch.ckpt")).unwrap();
    std::os::unix::fs::symlink("epoch.ckpt", folder.path().join("last.ckpt")).unwrap();
    assert!(run(folder.path(), &[]).status.success());
    assert_eq!(
        names(folder.path(), ".safetensors"),
        ["epoch.safetensors", "last.safetensors"]
    );
}

#[test]
fn a_folder_and_its_index_are_one_input() {
    let (_folder, model) = copy_of("distributed/three");
    let index = model.join("pytorch_model.bin.index.json");
    let output = run(&model, &[index.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn metadata_named_from_inside_its_folder_gives_the_folders_name() {
    let (folder, model) = copy_of("distributed/nested");
    let inside = ckpt2st()
        .arg(".metadata")
        .current_dir(&model)
        .output()
        .unwrap();
    assert!(inside.status.success(), "{}", stderr(&inside));
    assert_eq!(names(folder.path(), ".safetensors"), ["model.safetensors"]);
}
