//! Rules about who depends on whom, and with which features.

use super::{Complaint, Project};
use crate::tools::{list, text};

/// Our packages, what each may need of ours, and what its tests may need besides.
const ARROWS: &[(&str, &[&str], &[&str])] = &[
    ("oncekey-core", &[], &[]),
    ("oncekey-conformance", &["oncekey-core"], &[]),
    ("oncekey-testbed", &[], &[]),
    ("oncekey-postgres", &["oncekey-core"], &["oncekey-conformance", "oncekey-storm", "oncekey-testbed"]),
    ("oncekey-storm", &["oncekey-core", "oncekey-conformance", "oncekey-testbed"], &[]),
    ("oncekey-redis", &["oncekey-core"], &["oncekey-conformance", "oncekey-storm", "oncekey-testbed"]),
    ("oncekey-sqlite", &["oncekey-core"], &["oncekey-conformance"]),
    (
        "oncekey-cli",
        &["oncekey-core", "oncekey-postgres", "oncekey-redis", "oncekey-sqlite", "oncekey-conformance"],
        &["oncekey-testbed"],
    ),
    ("oncekey-example-killed", &[], &[]),
    ("oncekey-example-own-backend", &["oncekey-core"], &["oncekey-conformance"]),
    ("oncekey-example-service-tests", &["oncekey-core"], &["oncekey-sqlite"]),
    ("oncekey-example-transfer", &["oncekey-sqlite", "oncekey-example-killed"], &[]),
    (
        "oncekey-example-transfer-postgres",
        &["oncekey-postgres", "oncekey-example-killed"],
        &["oncekey-testbed"],
    ),
    ("xtask", &[], &[]),
];

/// No driver, no HTTP and no server in these.
const PURE: &[&str] = &["oncekey-core", "oncekey-conformance"];
const DRIVERS: &[&str] = &[
    "rusqlite",
    "libsqlite3-sys",
    "sqlx",
    "tokio-postgres",
    "postgres",
    "redis",
    "fred",
    "redb",
    "http",
    "hyper",
    "axum",
    "tower",
    "reqwest",
];
/// tokio's features that reach the operating system.
const REACHING: &[&str] = &["full", "net", "fs", "process", "signal", "io-std", "rt-multi-thread"];

/// A backend knows core and its driver; conformance knows core alone; core knows nobody.
pub(super) fn arrows(project: &Project) -> Vec<Complaint> {
    let ours: Vec<&str> = list(&project.metadata, "packages").map(|package| text(package, "name")).collect();
    let mut found = Vec::new();
    for package in list(&project.metadata, "packages") {
        let name = text(package, "name");
        let mut complain = |what: String| found.push(Complaint::new("Cargo.toml", 1, what));
        let Some((_, needs, tests)) = ARROWS.iter().find(|(known, ..)| *known == name) else {
            complain(format!("{name} has no place in the arrows (xtask/src/tidy/manifests.rs)"));
            continue;
        };
        for dependency in list(package, "dependencies") {
            let needed = text(dependency, "name");
            let shipped = text(dependency, "kind") != "dev";
            // A package may name itself for its own tests, to turn a feature on.
            let allowed =
                needs.contains(&needed) || (!shipped && (tests.contains(&needed) || needed == name));
            if ours.contains(&needed) && !allowed {
                complain(format!("{name} may not depend on {needed}: arrows point down"));
            }
            if shipped && PURE.contains(&name) && DRIVERS.contains(&needed) {
                complain(format!("{name} may not depend on {needed}: it knows no driver and no server"));
            }
            if shipped && name == "oncekey-core" && needed == "tokio" {
                for feature in list(dependency, "features").filter_map(|f| f.as_str()) {
                    if REACHING.contains(&feature) {
                        complain(format!("oncekey-core may not have tokio's {feature}"));
                    }
                }
            }
        }
    }
    found
}

/// Each feature that a manifest defines or asks for has a comment, on its line or the one above. What
/// only tests ask for reaches no user.
pub(super) fn reasons(project: &Project) -> Vec<Complaint> {
    let mut found = Vec::new();
    for file in project.files.iter().filter(|f| f.path == "Cargo.toml" || f.path.ends_with("/Cargo.toml")) {
        let (mut section, mut above) = ("", "");
        for (number, line) in file.lines() {
            let line = line.trim();
            let said = above.starts_with('#') || line.contains(" # ");
            let defines = section == "[features]" && line.contains(" = ") && !line.starts_with("default ");
            let asks = section.ends_with("dependencies]")
                && section != "[dev-dependencies]"
                && line.contains("features = [")
                && line.contains('"');
            if line.starts_with('[') {
                section = line;
            } else if !line.starts_with('#') && (defines || asks) && !said {
                let name = line.split([' ', '.']).next().unwrap_or_default();
                found.push(Complaint::new(&file.path, number, format!("`{name}`: why these features?")));
            }
            above = line;
        }
    }
    found
}

/// Each locked package comes from the public registry, or is ours.
pub(super) fn registry(project: &Project) -> Vec<Complaint> {
    let public = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let mut found = Vec::new();
    for file in project.files.iter().filter(|f| f.path.ends_with("Cargo.lock")) {
        for (number, line) in file.lines() {
            if line.starts_with("source = ") && line != public {
                found.push(Complaint::new(&file.path, number, line));
            }
        }
    }
    for file in project.files.iter().filter(|f| f.path.ends_with(".cargo/config.toml")) {
        for (number, line) in file.lines().filter(|(_, line)| line.starts_with("[source")) {
            found.push(Complaint::new(
                &file.path,
                number,
                format!("{line}: a registry of one's own stays at home"),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::says;
    use super::*;

    fn said_of(name: &str, dependency: &serde_json::Value) -> String {
        let packages = json!([{ "name": name, "dependencies": [dependency] }]);
        let known = ["oncekey-core", "oncekey-sqlite", "oncekey-conformance"].iter().filter(|k| **k != name);
        let mut packages = packages.as_array().cloned().unwrap_or_default();
        packages.extend(known.map(|known| json!({ "name": known, "dependencies": [] })));
        let project = Project { metadata: json!({ "packages": packages }), ..Project::default() };
        arrows(&project).iter().map(|c| format!("{}\n", c.what)).collect()
    }

    #[test]
    fn an_arrow_that_points_up_is_named() {
        let sqlite = json!({ "name": "oncekey-sqlite", "kind": null });
        assert!(said_of("oncekey-core", &sqlite).contains("oncekey-core may not depend on oncekey-sqlite"));
        assert!(said_of("oncekey-conformance", &sqlite).contains("arrows point down"));
        assert_eq!(said_of("oncekey-cli", &sqlite), "");
        let suite = |kind: serde_json::Value| json!({ "name": "oncekey-conformance", "kind": kind });
        assert_eq!(said_of("oncekey-sqlite", &suite(json!("dev"))), "");
        assert!(said_of("oncekey-sqlite", &suite(json!(null))).contains("may not depend"));
        assert!(said_of("stranger", &json!({})).contains("no place in the arrows"));
    }

    #[test]
    fn core_has_no_driver_and_no_network() {
        assert!(said_of("oncekey-core", &json!({ "name": "rusqlite", "kind": null })).contains("no driver"));
        let tokio = |feature: &str| json!({ "name": "tokio", "kind": null, "features": ["rt", feature] });
        assert!(said_of("oncekey-core", &tokio("net")).contains("tokio's net"));
        assert_eq!(said_of("oncekey-core", &tokio("time")), "");
    }

    #[test]
    fn a_feature_without_its_reason_is_named() {
        let bare = "[features]\ndefault = [\"a\"]\na = []\n[dependencies]\nx = { features = [\"y\"] }\n";
        assert_eq!(
            says(reasons, &[("Cargo.toml", bare)]),
            "Cargo.toml:3: `a`: why these features?\nCargo.toml:5: `x`: why these features?\n"
        );
        let told = "[features]\n# For b.\na = []\n[dependencies]\nx = { features = [\"y\"] } # y: for c\n";
        assert_eq!(says(reasons, &[("Cargo.toml", told)]), "");
    }

    #[test]
    fn a_package_from_elsewhere_is_named() {
        let lock = "source = \"git+https://example.org/x\"\n";
        assert!(says(registry, &[("Cargo.lock", lock)]).contains("Cargo.lock:1"));
        assert!(says(registry, &[(".cargo/config.toml", "[source.mine]\n")]).contains("config.toml:1"));
    }
}
