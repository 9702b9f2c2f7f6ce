//! What is no regular file, as an input and as a target, and links.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::faults::*;
use crate::common::leftovers;

const ALL: [&[&str]; 3] = [&[], &["--overwrite"], &["--skip-existing"]];

fn fifo(path: &Path) {
    assert!(works("mkfifo", &[path.to_str().unwrap()]));
}

/// A folder with the sound checkpoint `good.ckpt`: the folder, the checkpoint, and what its output holds.
fn good() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (
        folder.path().join("good.ckpt"),
        folder.path().join("good.safetensors"),
    );
    fs::write(&input, checkpoint(1000, 1)).unwrap();
    assert!(in_time().arg("-q").arg(&input).status().unwrap().success());
    let content = fs::read(&output).unwrap();
    fs::remove_file(output).unwrap();
    (folder, input, content)
}

fn failed(output: &Output, mention: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(mention), "{text}");
}

#[test]
fn what_is_no_regular_file_is_refused_as_an_input_without_waiting_for_it() {
    let (folder, input, content) = good();
    let socket = folder.path().join("socket.ckpt");
    let _listener = UnixListener::bind(&socket).unwrap();
    let pipe = folder.path().join("fifo.ckpt");
    fifo(&pipe);
    let links = [
        ("zero.ckpt", Path::new("/dev/zero")),
        ("pipe.ckpt", &pipe),
        ("self.ckpt", Path::new("self.ckpt")),
        ("gone.ckpt", Path::new("gone")),
    ];
    for (link, to) in links {
        symlink(to, folder.path().join(link)).unwrap();
    }
    let linked = links.map(|(link, _)| folder.path().join(link));
    let out = folder.path().join("out");
    for bad in [
        socket,
        pipe,
        PathBuf::from("/dev/zero"),
        PathBuf::from("/dev/null"),
    ]
    .iter()
    .chain(&linked)
    {
        for verb in [&[][..], &["--dry-run"], &["inspect"]] {
            let output = in_time().args(verb).arg(bad).output().unwrap();
            failed(&output, bad.file_name().unwrap().to_str().unwrap());
        }
        let output = in_time()
            .arg(bad)
            .arg(&input)
            .arg("-o")
            .arg(&out)
            .output()
            .unwrap();
        failed(&output, bad.file_name().unwrap().to_str().unwrap());
        assert!(fs::read(out.join("good.safetensors")).unwrap() == content);
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn a_walk_passes_over_what_is_no_regular_file_and_over_links_to_folders() {
    let (folder, _, content) = good();
    let folder = folder.path();
    let _listener = UnixListener::bind(folder.join("socket.ckpt")).unwrap();
    fifo(&folder.join("fifo.ckpt"));
    fs::create_dir(folder.join("deep")).unwrap();
    fs::create_dir(folder.join("folder.ckpt")).unwrap();
    symlink("..", folder.join("deep/up")).unwrap();
    symlink("loop", folder.join("loop")).unwrap();
    symlink("loop.ckpt", folder.join("loop.ckpt")).unwrap();
    symlink("/dev/zero", folder.join("zero.ckpt")).unwrap();
    symlink("..", folder.join("up.ckpt")).unwrap();
    let out = folder.join("out");
    let output = in_time()
        .args(["-r", "-q"])
        .arg(folder)
        .arg("-o")
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_done(&out, &Files::from([("good.safetensors".into(), content)]));
}

#[test]
fn a_device_or_fifo_as_target_stays_what_it_is() {
    let (folder, input, _) = good();
    let pipe = folder.path().join("fifo.safetensors");
    fifo(&pipe);
    let socket = folder.path().join("socket.safetensors");
    let _listener = UnixListener::bind(&socket).unwrap();
    let mut targets = vec![pipe.clone(), socket];
    let device = folder.path().join("device.safetensors");
    match works("mknod", &[device.to_str().unwrap(), "c", "1", "3"]) {
        true => targets.push(device),
        false => not_checked("a device as target", "mknod is not allowed"),
    }
    for target in targets {
        let kind = |path: &Path| {
            let found = fs::symlink_metadata(path).unwrap();
            (found.ino(), found.rdev(), found.file_type())
        };
        let before = kind(&target);
        assert!(before.2.is_fifo() || before.2.is_socket() || before.2.is_char_device());
        for args in ALL {
            let output = in_time()
                .args(args)
                .arg(&input)
                .arg("-o")
                .arg(&target)
                .output()
                .unwrap();
            failed(&output, target.file_name().unwrap().to_str().unwrap());
            assert!(kind(&target) == before, "{args:?}");
            assert_eq!(leftovers(folder.path()), 0);
        }
    }
}

#[test]
fn a_link_as_target_is_replaced_itself_and_only_with_overwrite() {
    let (folder, input, content) = good();
    let target = folder.path().join("good.safetensors");
    let goal = folder.path().join("goal");
    for exists in [true, false] {
        if exists {
            fs::write(&goal, "mine").unwrap();
        }
        symlink("goal", &target).unwrap();
        let output = in_time().arg(&input).output().unwrap();
        failed(&output, "--overwrite");
        assert_eq!(fs::read_link(&target).unwrap(), Path::new("goal"));

        let output = in_time().arg("--overwrite").arg(&input).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(fs::symlink_metadata(&target).unwrap().is_file());
        assert!(fs::read(&target).unwrap() == content);
        assert_eq!(goal.exists(), exists);
        if exists {
            assert_eq!(fs::read(&goal).unwrap(), b"mine");
            fs::remove_file(&goal).unwrap();
        }
        fs::remove_file(&target).unwrap();
    }
}

#[test]
fn skip_existing_keeps_a_link_to_a_complete_output_and_replaces_a_link_to_anything_else() {
    let (folder, input, content) = good();
    let target = folder.path().join("good.safetensors");
    let goal = folder.path().join("goal");
    for (goal_content, kept) in [
        (Some(&content[..]), true),
        (Some(b"garbage"), false),
        (None, false),
    ] {
        let _ = fs::remove_file(&goal);
        if let Some(content) = goal_content {
            fs::write(&goal, content).unwrap();
        }
        symlink("goal", &target).unwrap();
        let output = in_time()
            .arg("--skip-existing")
            .arg(&input)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(fs::symlink_metadata(&target).unwrap().is_symlink(), kept);
        assert!(fs::read(&target).unwrap() == content);
        assert!(fs::read(&goal).ok().as_deref() == goal_content);
        fs::remove_file(&target).unwrap();
    }
}

#[test]
fn an_input_is_never_written_to_however_its_output_is_spelled() {
    let (folder, input, _) = good();
    let folder = folder.path();
    fs::create_dir(folder.join("sub")).unwrap();
    symlink(".", folder.join("here")).unwrap();
    let own = folder.join("own.safetensors");
    fs::copy(&input, &own).unwrap();
    symlink("own.safetensors", folder.join("own.ckpt")).unwrap();
    let before = fs::read(&own).unwrap();
    for (input, output) in [
        ("own.safetensors", "sub/../own.safetensors"),
        ("own.safetensors", "here/own.safetensors"),
        ("here/own.safetensors", "here/here/own.safetensors"),
        // A link to it, the output of which it would be.
        ("own.ckpt", "own.safetensors"),
        ("own.ckpt", "here/own.ckpt"),
    ] {
        for args in ALL {
            let mut command = in_time();
            command
                .current_dir(folder)
                .args(args)
                .args([input, "-o", output]);
            let output = command.output().unwrap();
            assert!(
                matches!(output.status.code(), Some(1 | 2)),
                "{input}: {}",
                stderr(&output)
            );
            assert!(fs::read(&own).unwrap() == before);
            assert!(
                fs::symlink_metadata(folder.join("own.ckpt"))
                    .unwrap()
                    .is_symlink()
            );
        }
    }
}

#[test]
fn an_input_of_a_batch_is_never_written_to_as_the_output_of_another() {
    let (folder, input, content) = good();
    let folder = folder.path();
    let other = folder.join("other.ckpt");
    fs::write(&other, checkpoint(1000, 2)).unwrap();
    let before = fs::read(&other).unwrap();
    let target = folder.join("good.safetensors");
    for link in [true, false] {
        let linked = match link {
            true => symlink(&other, &target),
            false => fs::hard_link(&other, &target),
        };
        linked.unwrap();
        // A name of its own: replaced when asked to, and what else has the content keeps it.
        let output = in_time()
            .arg("--overwrite")
            .arg(&input)
            .arg(&other)
            .output()
            .unwrap();
        assert!(fs::read(&other).unwrap() == before);
        if output.status.success() {
            assert!(fs::read(&target).unwrap() == content);
        }
        fs::remove_file(&target).unwrap();
        let _ = fs::remove_file(folder.join("other.safetensors"));
    }
    // Both are named, and one would be written over the other.
    fs::copy(&other, &target).unwrap();
    for args in ALL {
        let mut command = in_time();
        let output = command
            .args(args)
            .arg(&input)
            .arg(&target)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(fs::read(&target).unwrap() == before);
    }
}

#[test]
fn an_output_that_cannot_be_looked_at_is_told_of_and_stays() {
    let (folder, input, content) = good();
    let target = folder.path().join("good.safetensors");
    for broken in [
        &content[..content.len() - 1],
        b"",
        b"garbage",
        &content[..4],
        &[0xff; 64],
    ] {
        fs::write(&target, broken).unwrap();
        let output = in_time().arg(&input).output().unwrap();
        failed(&output, "--overwrite");
        assert!(fs::read(&target).unwrap() == broken);
        // A resumed run makes it again.
        let output = in_time()
            .arg("--skip-existing")
            .arg(&input)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(fs::read(&target).unwrap() == content);
    }
    let before = File::open(&target).unwrap();
    let output = in_time()
        .arg("--skip-existing")
        .arg(&input)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        before.metadata().unwrap().ino(),
        fs::metadata(&target).unwrap().ino()
    );
}
