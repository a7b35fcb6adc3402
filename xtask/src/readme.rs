//! What the README shows is what the program does.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use crate::tools;

/// Types the README's first lines, and compares the pages of `exec` with the program's help.
pub(crate) fn check() -> Result<(), String> {
    let readme =
        fs::read_to_string(tools::root().join("README.md")).map_err(|e| format!("README.md: {e}"))?;

    // A folder of its own stands for a newcomer's empty home.
    let state = tools::root().join("target/readme");
    let _ = fs::remove_dir_all(&state);
    fs::create_dir_all(&state).map_err(|e| format!("{}: {e}", state.display()))?;
    let typed = commands(&readme).into_iter().map(|line| {
        // In nanoseconds: two runs can't agree by chance.
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{line} +%N")]).current_dir(tools::root()).stdin(Stdio::null());
        shell.env("XDG_STATE_HOME", &state).env_remove("ONCEKEY_STORE");
        let printed = output(&mut shell)?;
        println!("$ {line} +%N\n{}", printed.trim_end());
        Ok(printed)
    });
    let printed: Result<Vec<_>, String> = typed.collect();
    match printed?.as_slice() {
        [first, again] if first == again && !first.trim().is_empty() => {}
        other => return Err(format!("the README's two lines should print the same: {other:?}")),
    }

    let help = output(&mut tools::cargo(["run", "--quiet", "--", "exec", "--help"]))?;
    let page =
        readme.split("\n## ").find(|section| section.starts_with("`oncekey exec`")).unwrap_or_default();
    let path = tools::root().join("cli/README.md");
    let long = fs::read_to_string(path).map_err(|e| format!("cli/README.md: {e}"))?;
    for (name, page) in [("README.md's page of `exec`", page), ("cli/README.md", &long)] {
        let missing = missing(&help, page);
        if !missing.is_empty() {
            return Err(format!("{name} lacks {missing:?}"));
        }
    }
    Ok(())
}

/// What somebody types in the first console block.
fn commands(readme: &str) -> Vec<&str> {
    let block =
        readme.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    block.lines().filter_map(|line| line.strip_prefix("$ ")).collect()
}

/// The options, variables and exit codes of `help` that `page` doesn't have.
fn missing(help: &str, page: &str) -> Vec<String> {
    let words = |text: &str| -> BTreeSet<String> {
        let word = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_');
        text.split(word).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let page = words(page);
    let codes = help.lines().skip_while(|line| !line.starts_with("Exit codes"));
    let codes = codes.filter_map(|line| line.split_whitespace().next());
    let codes = codes.filter(|word| word.parse::<u8>().is_ok()).map(str::to_owned);
    let names = words(help).into_iter().filter(|word| {
        (word.starts_with("--") && word.len() > 2 && word != "--help") || word.starts_with("ONCEKEY_")
    });
    names.chain(codes).filter(|word| !page.contains(word)).collect()
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("{command:?}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("{command:?}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_or_exit_code_that_the_page_lacks_is_named() {
        let help = "ONCEKEY_KEY\n  --lease <LEASE>\n  --wait\nExit codes:\n  64   bad\n  127  none\n";
        let page = "`--lease 30s` ONCEKEY_KEY\n| 64 | bad |\n";
        assert_eq!(missing(help, page), ["--wait", "127"]);
        assert_eq!(commands("a\n```console\n$ one\nout\n$ two\n```\n"), ["one", "two"]);
    }
}
