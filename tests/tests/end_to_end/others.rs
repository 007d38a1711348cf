//! Other users of the machine: what they can read, write and connect to, whatever the umask of whoever runs laminar.

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use laminar_tests::gaps;
use laminar_tests::world::{finish, under};

use crate::world;

/// Leaves files, folders and values, and waits in the end.
const FLOW: &str = r#"
flow: Others
parameters: { wait: true }
layers:
  Left: { cache: true, run: 'mkdir -p "$LAMINAR_OUTPUTS/d/e"; echo x > "$LAMINAR_OUTPUTS/d/e/x"; echo "[1, 2]" > "$LAMINAR_OUTPUTS/list.json"; echo said' }
  Each: { foreach: { at: "${{ Left.list }}" }, run: 'echo ${{ each.at }}; cat "$LAMINAR_EACH" "$LAMINAR_INPUTS/Left/d/e/x"' }
  Wait: { needs: [Each], container: { cpu: 0.001 }, run: 'echo up > up; while [ ! -e go ]; do sleep 0.05; done' }
"#;

/// All that is below a folder, and it; what goes away meanwhile is left out.
fn all(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut at = 0;
    while at < found.len() {
        if found[at].symlink_metadata().is_ok_and(|it| it.is_dir()) {
            found.extend(found[at].read_dir().into_iter().flatten().map(|entry| entry.unwrap().path()));
        }
        at += 1;
    }
    found
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o7777
}

#[test]
fn nobody_else_can_write_or_listen_whatever_the_umask() {
    for umask in [0o000, 0o022, 0o077] {
        let world = world();
        world.write("flow.yaml", FLOW);
        let mut running = under(umask, world.command(["run"]));
        let running =
            running.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let _ = world.wait_for_file("up");
        let root = world.path().join(".laminar");
        let found = all(&root);
        let (mut logs, mut sockets) = (0, 0);
        for path in &found {
            let Ok(metadata) = path.symlink_metadata() else { continue };
            let kind = metadata.file_type();
            if kind.is_symlink() {
                continue;
            }
            let (mode, name) = (metadata.permissions().mode() & 0o7777, path.display());
            assert_eq!(mode & 0o022, 0, "umask {umask:o}: {name} has {mode:o}");
            if path.extension().is_some_and(|end| end == "log" || end == "db") {
                assert_eq!(mode, 0o600, "umask {umask:o}: {name}");
                logs += 1;
            }
            if kind.is_socket() {
                assert_eq!(mode, 0o600, "umask {umask:o}: {name}");
                sockets += 1;
            }
        }
        assert!(logs > 3 && sockets == 1, "umask {umask:o}: {found:?}");
        assert_eq!(mode(&root), 0o700, "umask {umask:o}");
        for execution in root.join("executions").read_dir().unwrap() {
            let folder = execution.unwrap().path();
            assert_eq!(mode(&folder), 0o700, "umask {umask:o}");
            assert_eq!(mode(&folder.join("local")), 0o700, "umask {umask:o}");
        }
        assert_eq!(mode(&world.path().join(".shares")), 0o700, "umask {umask:o}");
        for share in world.path().join(".shares").read_dir().unwrap() {
            assert_eq!(mode(&share.unwrap().path()), 0o600, "umask {umask:o}");
        }
        world.write("go", "");
        finish(running).exits(0);
    }
}

#[test]
fn a_layer_has_the_umask_of_whoever_runs_it() {
    let world = world();
    world.write("flow.yaml", "flow: Umask\nlayers: { Umask: { run: umask } }\n");
    for umask in [0o000, 0o027] {
        assert!(under(umask, world.command(["run"])).output().unwrap().status.success());
        let said = world.run(["logs", "Umask"]).exits(0).stdout;
        assert_eq!(u32::from_str_radix(said.trim(), 8).unwrap(), umask);
    }
}

#[test]
fn a_root_that_others_can_write_to_is_not_used() {
    let world = world();
    world.write("flow.yaml", "flow: Small\nlayers: { One: { run: echo one } }\n");
    world.run(["run"]).exits(0);
    let root = world.path().join(".laminar");
    let refused = |told: &str| {
        for args in [&["run"][..], &["resume"], &["cancel"], &["gc"], &["rm", "latest"]] {
            world.run(args).exits(2).says(&["cannot rely on the root", told, "hint:"]);
        }
        // It can be looked at.
        world.run(["list"]).exits(0);
        assert_eq!(world.run(["logs", "One"]).exits(0).stdout, "one\n");
    };
    std::fs::set_permissions(&root, PermissionsExt::from_mode(0o757)).unwrap();
    refused("can be written to by everybody");
    std::fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).unwrap();
    world.run(["run"]).exits(0);
    if std::os::unix::fs::chown(&root, Some(65534), None).is_err() {
        return gaps::skip("a root of another user", "only root can give one away");
    }
    refused("belongs to another user (uid 65534)");
}

/// Its first words, as `backend-local` says them: a length, "hello", a number, a version.
const HELLO: [u8; 17] = [13, 0, 0, 0, 1, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn a_supervisor_hears_nobody_else_though_its_folders_are_open() {
    if !rustix::process::geteuid().is_root() {
        return gaps::skip("a supervisor and another user", "only root can become one");
    }
    let world = world();
    world.write("flow.yaml", FLOW);
    let running = world.start(["run"]);
    let _ = world.wait_for_file("up");
    let found = all(&world.path().join(".laminar"));
    let socket = found.iter().find(|path| path.symlink_metadata().is_ok_and(|it| it.file_type().is_socket())).unwrap();
    for folder in socket.ancestors().skip(1).take_while(|folder| folder.starts_with(world.path())) {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o666)).unwrap();
    let socket = socket.clone();
    let answer = std::thread::spawn(move || {
        become_nobody();
        let mut stream = UnixStream::connect(socket).unwrap();
        // It may have hung up already.
        let _ = stream.write_all(&HELLO);
        // The end, or that it was hung up on; one byte would be a greeting.
        stream.read(&mut [0]).unwrap_or(0)
    });
    assert_eq!(answer.join().unwrap(), 0, "not even a greeting");
    world.write("go", "");
    finish(running).exits(0);
}

/// Of this thread alone: the standard library has no word for it, and the C library's would change all threads.
#[expect(unsafe_code)]
fn become_nobody() {
    // SAFETY: it takes three numbers, and changes nothing but who this thread is.
    let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
    assert_eq!(changed, 0);
}
