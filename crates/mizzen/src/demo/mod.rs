//! `mizzen demo`.

use crate::cli::DemoArgs;
use crate::error::Result;

/// Not yet.
pub fn run(args: &DemoArgs) -> Result<()> {
    let _ = (args.keep, &args.inside);
    Err("not yet".into())
}
