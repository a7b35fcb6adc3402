//! Measures oncekey beside its limits and its peers, in one run. `cargo xtask bench` runs it.

mod engines;
mod load;
mod machine;
mod plan;
mod plot;
mod race;
mod report;
mod stats;
mod stores;

use std::process::ExitCode;

use load::Failure;
use plan::{HELP, Plan};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let Some(plan) = Plan::parse(lexopt::Parser::from_env())? else {
        print!("{HELP}");
        return Ok(());
    };
    let mut sections = Vec::new();
    if plan.sqlite {
        sections.push(engines::sqlite::measure(&plan)?);
    }
    if plan.sqlite && plan.growth {
        sections.push(engines::growth::measure(&plan)?);
    }
    if plan.postgres && plan.layouts {
        sections.push(engines::postgres_layouts::measure(&plan)?);
    } else if plan.postgres {
        sections.push(engines::postgres::measure(&plan)?);
    }
    if plan.postgres && plan.growth {
        sections.push(engines::postgres_growth::measure(&plan)?);
    }
    if plan.redis && plan.layouts {
        sections.push(engines::redis_layouts::measure(&plan)?);
    } else if plan.redis {
        sections.push(engines::redis::measure(&plan)?);
    }
    if plan.redis && plan.growth {
        sections.push(engines::redis_growth::measure(&plan)?);
    }
    if plan.memory {
        sections.push(engines::memory::measure(&plan)?);
    }
    for section in &sections {
        println!("{}", section.markdown());
        if plan.writes() {
            section.write(&plan.out)?;
        }
    }
    for goal in sections.iter().flat_map(report::Section::goals) {
        println!("{goal}");
    }
    Ok(())
}
