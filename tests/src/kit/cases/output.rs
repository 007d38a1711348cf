//! A task's log: its complete output, byte for byte.

use std::io::Read;
use std::path::PathBuf;
use std::process::Command;

use laminar_core::executor::{Cause, Task};

use super::case;
use crate::kit::case::{Case, NotHere};
use crate::kit::scene::{GATE, Scene, log, text};

pub(super) const CASES: &[Case] = &[
    case!(a_silent_task_has_no_log_or_an_empty_one, [3], [Processes]),
    case!(both_streams_are_kept_in_the_order_written, [3], [Processes, Output, Order]),
    case!(the_streams_can_be_opened_anew, [3], [Processes, Output, Order]),
    case!(last_words_are_never_lost, [3], [Processes, Output]),
    case!(a_last_line_without_an_end_is_kept, [3], [Processes, Output]),
    case!(a_line_of_five_mebibytes_is_kept, [3], [Processes, Output]),
    case!(sixty_four_mebibytes_are_kept, [3], [Processes, Output]),
    Case { on_request: true, ..case!(a_gibibyte_is_kept, [3], [Processes, Output]) },
    case!(a_log_ends_at_its_limit_and_its_task_goes_on, [3], [Processes, Output, Files]),
    case!(output_after_the_scheduler_is_kept, [3, 11], [Processes, Output, Files]),
    case!(maybe a_full_disk_ends_no_task_and_is_told, [3], [Processes, Output]),
];

async fn a_silent_task_has_no_log_or_an_empty_one(scene: &Scene) {
    let task = scene.sh("exit 0");
    assert_eq!(scene.run(&task).await.cause, Cause::Code(0));
    assert_eq!(text(&task), "");
}

async fn both_streams_are_kept_in_the_order_written(scene: &Scene) {
    let task = scene.sh("for at in 1 2 3 4 5; do echo out $at; echo err $at >&2; done");
    assert_eq!(scene.run(&task).await.cause, Cause::Code(0));
    assert_eq!(text(&task), (1..6).map(|at| format!("out {at}\nerr {at}\n")).collect::<String>());
}

async fn the_streams_can_be_opened_anew(scene: &Scene) {
    let task =
        scene.sh("for at in 1 2 3; do echo one $at; echo two $at >/dev/stderr; echo three $at >/dev/stdout; done");
    assert_eq!(scene.run(&task).await.cause, Cause::Code(0), "{}", text(&task));
    assert_eq!(text(&task), (1..4).map(|at| format!("one {at}\ntwo {at}\nthree {at}\n")).collect::<String>());
}

/// Many tasks write at the very moment they exit.
async fn last_words_are_never_lost(scene: &Scene) {
    let count = if scene.factory().is_dear() { 10 } else { 200 };
    let tasks: Vec<_> = (0..count).map(|at| scene.sh(&format!("exec echo last words of {at}"))).collect();
    let mut handles = Vec::new();
    for task in &tasks {
        handles.push(scene.start(task).await);
    }
    for (at, (task, handle)) in tasks.iter().zip(&handles).enumerate() {
        assert_eq!(scene.wait(handle).await.cause, Cause::Code(0));
        assert_eq!(text(task), format!("last words of {at}\n"));
    }
}

async fn a_last_line_without_an_end_is_kept(scene: &Scene) {
    let task = scene.sh(r"printf 'a line\n\0\377\r\nno end'");
    assert_eq!(scene.run(&task).await.cause, Cause::Code(0));
    assert_eq!(log(&task), b"a line\n\0\xff\r\nno end");
}

async fn a_line_of_five_mebibytes_is_kept(scene: &Scene) {
    let task = scene.sh(r"head -c 5242880 /dev/zero | tr '\0' x");
    assert_eq!(scene.run(&task).await.cause, Cause::Code(0));
    assert!(log(&task) == vec![b'x'; 5 << 20], "{} bytes", log(&task).len());
}

async fn sixty_four_mebibytes_are_kept(scene: &Scene) {
    keeps(scene, 64 << 20).await;
}

async fn a_gibibyte_is_kept(scene: &Scene) {
    keeps(scene, 1 << 30).await;
}

/// A task writes so many bytes in lines of 16, and all of them are in its log.
async fn keeps(scene: &Scene, bytes: u64) {
    const LINE: &[u8] = b"0123456789abcde\n";
    let task = scene.sh(&format!("yes 0123456789abcde | head -c {bytes}"));
    assert_eq!(scene.run(&task).await.cause, Cause::Code(0));
    let mut file = std::fs::File::open(&task.log).unwrap();
    assert_eq!(file.metadata().unwrap().len(), bytes);
    let (expected, mut chunk) = (LINE.repeat(1 << 16), vec![0; LINE.len() << 16]);
    for at in 0..bytes / chunk.len() as u64 {
        file.read_exact(&mut chunk).unwrap();
        assert!(chunk == expected, "other bytes in mebibyte {at}");
    }
}

async fn a_log_ends_at_its_limit_and_its_task_goes_on(scene: &Scene) {
    let script = r#"yes 0123456789abcde | head -c 300000; echo last; : >"$LAMINAR_OUTPUTS/done"; exit 3"#;
    let task = Task { log_limit: 100_000, ..scene.sh(script) };
    let exit = scene.run(&task).await;
    assert_eq!(exit.cause, Cause::Code(3), "{}", exit.evidence);
    assert!(task.outputs.join("done").exists(), "it went on");
    let (kept, end) = log(&task).split_at_checked(100_000).map(|(kept, end)| (kept.to_vec(), end.to_vec())).unwrap();
    assert!(kept == b"0123456789abcde\n".repeat(6250), "the beginning is kept");
    let end = String::from_utf8(end).unwrap();
    assert_eq!(end, "laminar: the limit of this log is reached (100000 bytes); what follows is not kept\n");
    assert!(exit.evidence.contains("200005 more were printed and not kept"), "{}", exit.evidence);
}

async fn output_after_the_scheduler_is_kept(scene: &mut Scene) {
    let script = format!(r#"echo before; : >"$LAMINAR_OUTPUTS/here"; {GATE} yes after | head -c 1000002; exit 3"#);
    let task = scene.sh(&script);
    let handle = scene.start(&task).await;
    scene.left(&task, "here").await;
    scene.executor().release(scene.execution()).await.unwrap();
    scene.open_gate();
    scene.succeed().await;
    assert_eq!(scene.wait(&handle).await.cause, Cause::Code(3));
    assert!(text(&task) == format!("before\n{}", "after\n".repeat(166_667)), "{} bytes", log(&task).len());
}

async fn a_full_disk_ends_no_task_and_is_told(scene: &Scene) -> Result<(), NotHere> {
    let disk = SmallDisk::new(scene.path("small"))?;
    let script = "yes 0123456789abcde | head -c 1000000; exit 3";
    let task = Task { log: disk.0.join("log"), ..scene.sh(script) };
    let exit = scene.run(&task).await;
    assert_eq!(exit.cause, Cause::Code(3), "{}", exit.evidence);
    assert!(exit.evidence.contains("log"), "nothing of a log in: {:?}", exit.evidence);
    // The next has room again.
    let _ = std::fs::remove_file(&task.log);
    let task = Task { log: disk.0.join("next"), ..scene.sh("echo room") };
    assert_eq!(scene.run(&task).await.cause, Cause::Code(0));
    assert_eq!(text(&task), "room\n");
    Ok(())
}

/// A file system with room for 64 KiB.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(folder: PathBuf) -> Result<SmallDisk, NotHere> {
        std::fs::create_dir_all(&folder).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(&folder).output();
        match mounted {
            Ok(mounted) if mounted.status.success() => Ok(SmallDisk(folder)),
            Ok(mounted) => {
                // Without the folder, which is another one each time.
                let said = String::from_utf8_lossy(&mounted.stderr);
                Err(NotHere(format!("no small disk: {}", said.trim().rsplit(": ").next().unwrap_or_default())))
            }
            Err(error) => Err(NotHere(format!("no small disk: mount: {error}"))),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a task of a case that failed may still write to it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
