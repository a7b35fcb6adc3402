//! The range of rusqlite that oncekey-sqlite takes, tested at both ends.
//!
//! A lockfile holds one rusqlite, so the other end gets a copy of the workspace under target/, with a
//! lockfile of its own. The copy has core, the suite and the backend alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::Step;
use crate::tools;

/// Both ends. `backend-sqlite/Cargo.toml` says `>=0.39, <0.44`.
const ENDS: [(&str, &str); 2] = [("rusqlite-oldest", "0.39.0"), ("rusqlite-newest", "0.43.0")];
/// What the copy consists of.
const FOLDERS: [&str; 3] = ["core", "conformance-tests", "backend-sqlite"];

/// A step for each end.
pub(crate) fn steps() -> impl Iterator<Item = Step> {
    ENDS.into_iter().map(|(name, version)| Step::new(name, move || end(version)))
}

fn end(version: &str) -> Result<(), String> {
    let root = tools::root();
    let lock = read(&root.join("Cargo.lock"))?;
    if locked(&lock, "rusqlite") == Some(version) {
        println!("rusqlite {version} is the one of Cargo.lock: the step `workspace` tests it");
        return Ok(());
    }
    let copy = root.join("target/range").join(format!("rusqlite-{version}"));
    for folder in FOLDERS {
        mirror(&root.join(folder), &copy.join(folder))?;
    }
    // The backend's doctests include it.
    write(&copy.join("README.md"), read(&root.join("README.md"))?.as_bytes())?;
    write(&copy.join("Cargo.toml"), manifest(&read(&root.join("Cargo.toml"))?).as_bytes())?;
    let cargo = |args: &[&str]| -> Command {
        let mut cargo = tools::cargo(args.iter().copied());
        cargo.current_dir(&copy).env("CARGO_TARGET_DIR", root.join("target/range/target"));
        cargo
    };
    // The pinned lockfile is made again only when the workspace's has changed.
    if fs::read_to_string(copy.join("Cargo.lock.from")).ok().as_deref() != Some(&lock) {
        write(&copy.join("Cargo.lock"), lock.as_bytes())?;
        tools::status(&mut cargo(&["update", "--package", "rusqlite", "--precise", version]))?;
        write(&copy.join("Cargo.lock.from"), lock.as_bytes())?;
    }
    let pinned = read(&copy.join("Cargo.lock"))?;
    if locked(&pinned, "rusqlite") != Some(version) {
        return Err(format!("the copy holds rusqlite {:?}, not {version}", locked(&pinned, "rusqlite")));
    }
    println!("rusqlite {version}, libsqlite3-sys {}", locked(&pinned, "libsqlite3-sys").unwrap_or("?"));
    tools::status(&mut cargo(&[
        "test",
        "--locked",
        "--package",
        "oncekey-sqlite",
        "--all-features",
        "--no-fail-fast",
    ]))
}

/// The workspace's manifest with the copy's members.
fn manifest(text: &str) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in text.lines() {
        let list =
            ["members = [", "default-members = [", "exclude = ["].iter().any(|key| line.starts_with(key));
        if list || inside {
            inside = !line.trim_end().ends_with(']');
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept.replacen("[workspace]\n", &format!("[workspace]\nmembers = {FOLDERS:?}\n"), 1)
}

/// The version of `package` in a lockfile.
fn locked<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let after = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?.1;
    after.split_once('"').map(|(version, _)| version)
}

/// Makes `to` hold what `from` holds. A file that is the same already keeps its time, so that cargo
/// builds only what changed.
fn mirror(from: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to).map_err(|e| told(to, &e))?;
    let (wanted, there) = (entries(from)?, entries(to)?);
    for path in there {
        if !wanted.iter().any(|wanted| wanted.file_name() == path.file_name()) {
            let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            gone.map_err(|e| told(&path, &e))?;
        }
    }
    for path in wanted {
        let target = to.join(path.file_name().unwrap_or_default());
        // A project of its own inside the folder brings its own build.
        if path.file_name().is_some_and(|name| name == "target") {
            continue;
        }
        if path.is_dir() {
            mirror(&path, &target)?;
        } else {
            write(&target, &fs::read(&path).map_err(|e| told(&path, &e))?)?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|e| told(folder, &e))?;
    entries.map(|entry| entry.map(|e| e.path()).map_err(|e| told(folder, &e))).collect()
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| told(path, &e))
}

fn write(path: &Path, text: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|e| told(path, &e))
}

fn told(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_has_its_own_members_and_the_rest_of_the_manifest() {
        let text = "# Top.\n[workspace]\nresolver = \"3\"\nmembers = [\n    \"a\",\n]\nexclude = [\"b\"]\n\n[workspace.package]\n";
        let expected = "# Top.\n[workspace]\nmembers = [\"core\", \"conformance-tests\", \"backend-sqlite\"]\n\
                        resolver = \"3\"\n\n[workspace.package]\n";
        assert_eq!(manifest(text), expected);
    }

    #[test]
    fn a_locked_version_is_read() {
        let lock = "[[package]]\nname = \"rusqlite\"\nversion = \"0.43.0\"\nsource = \"..\"\n";
        assert_eq!(locked(lock, "rusqlite"), Some("0.43.0"));
        assert_eq!(locked(lock, "sqlite"), None);
    }
}
