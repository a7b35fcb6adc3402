//! The tools that the steps call: cargo, from the project's own folder.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The project's top folder.
pub(crate) fn root() -> PathBuf {
    // Set by `cargo run`; the value of the build is for a program that is called directly.
    let here =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.parent().map_or_else(|| here.clone(), Path::to_path_buf)
}

/// `cargo ARGS..` in the project's top folder, with no standard input.
pub(crate) fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// `cargo ARGS..` in `folder`, a workspace of its own: its build goes under target/ all the same.
pub(crate) fn apart<'a>(folder: &str, args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = cargo(args);
    command.current_dir(root().join(folder)).env("CARGO_TARGET_DIR", root().join("target/apart"));
    command
}

/// Runs `command` with its output shown, after saying what it is.
pub(crate) fn status(command: &mut Command) -> Result<(), String> {
    println!("$ {}", shown(command));
    let status = command.status().map_err(|e| format!("`{}` did not start: {e}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}`: {status}", shown(command))) }
}

/// The command as somebody would type it.
fn shown(command: &Command) -> String {
    let root = root();
    let folder = command.get_current_dir().and_then(|folder| folder.strip_prefix(&root).ok());
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(String::new, |folder| format!("cd {} && ", folder.display()));
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let vars = command.get_envs().filter_map(|(name, value)| {
        value.map(|value| format!("{}={} ", name.to_string_lossy(), quoted(&value.to_string_lossy())))
    });
    let args = command.get_args().map(|arg| format!(" {}", quoted(&arg.to_string_lossy())));
    [folder].into_iter().chain(vars).chain([program.to_string_lossy().into_owned()]).chain(args).collect()
}

fn quoted(word: &str) -> String {
    if word.contains(' ') { format!("'{word}'") } else { word.to_owned() }
}

/// What `cargo metadata` says of a workspace's own packages.
pub(crate) fn metadata() -> Result<Value, String> {
    let output = cargo(["metadata", "--no-deps", "--format-version=1"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cargo metadata did not start: {e}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))
}

/// The elements of `value[key]`; none where there is no such list.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// `value[key]` as text; empty where it is none.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
