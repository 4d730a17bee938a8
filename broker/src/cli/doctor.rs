//! `currant-broker doctor`: what is wrong between a broker and its database, and how to mend it.

use anyhow::bail;

use super::runtime;
use crate::{
    app::doctor::{self, Finding, Sign},
    config::Config,
};

/// An error if something doesn't work.
pub(super) fn run(config: &Config) -> anyhow::Result<()> {
    let findings = runtime::build(1)?.block_on(doctor::examine(config))?;
    for Finding { what, sign, found, mend } in &findings {
        let sign = match sign {
            Sign::Good => "ok",
            Sign::Poor => "poor",
            Sign::Wrong => "WRONG",
        };
        println!("{sign:<5}  {what:<11}  {found}");
        if !mend.is_empty() {
            println!("{:20}to mend it: {mend}", "");
        }
    }
    let wrong = findings.iter().filter(|finding| finding.sign == Sign::Wrong).count();
    match wrong {
        0 => Ok(()),
        1 => bail!("something is wrong"),
        wrong => bail!("{wrong} things are wrong"),
    }
}
