//! `svc-ctl why`: the verdict on a packet, and the rule behind each step.

use std::process::ExitCode;

use super::args::{Output, WhyArgs};
use super::output::emit;
use crate::dataplane::pins::Pins;
use crate::observe::ask;
use crate::why;
use crate::why::request::Request;

pub fn main(args: &WhyArgs) -> anyhow::Result<ExitCode> {
    let request = Request::parse(&args.packet)?;
    let pins = Pins::existing(&args.pins.pin_dir)?;
    let ask = |id| {
        let wanted = ask::wanted(&args.run_dir.run_dir, id, request.to.is_ipv4());
        wanted.unwrap_or_else(|error| {
            eprintln!("svc-ctl: answered from the kernel's tables alone: {error:#}");
            None
        })
    };
    let answer = why::explain(&pins, &ask, &request, args.interface.as_deref())?;
    match args.output {
        Output::Json => emit(&format!("{}\n", serde_json::to_string_pretty(&answer)?))?,
        Output::Table => emit(&answer.text())?,
    }
    Ok(ExitCode::from(answer.verdict.exit_code()))
}
