//! The command line and the environment.

use std::{env, ffi::OsStr};

use clap::{
    Arg, Command, CommandFactory, Error, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Reads the command line, or ends the program as clap does. A variable that is set to nothing counts as one that is not set.
pub fn parse<C: CommandFactory + FromArgMatches>() -> C {
    let matches = without_empty(C::command()).try_get_matches();
    matches.and_then(|mut matches| C::from_arg_matches_mut(&mut matches)).unwrap_or_else(|error| {
        _ = error.print();
        let mut command = C::command();
        command.build();
        if let Some(name) = source(&error, &command) {
            say!("hint: the value is that of the environment variable {name}");
        }
        std::process::exit(error.exit_code())
    })
}

/// The command without the variables that are empty, as files for `docker compose` set them.
fn without_empty(command: Command) -> Command {
    let is_empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
    let without = |arg: Arg| if arg.get_env().is_some_and(is_empty) { arg.env(None) } else { arg };
    command.mut_args(without).mut_subcommands(without_empty)
}

/// The variable that a wrong value comes from, if it does.
fn source(error: &Error, command: &Command) -> Option<String> {
    if error.kind() == ErrorKind::InvalidUtf8 {
        let wrong = env::vars_os()
            .find(|(name, value)| name.to_string_lossy().starts_with("ENLARGER_") && value.to_str().is_none());
        return wrong.map(|(name, _)| name.to_string_lossy().into_owned());
    }
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidArg) else { return None };
    let named = |arg: &&Arg| arg.to_string() == *wrong && arg.get_env().is_some_and(|name| env::var_os(name).is_some());
    let is_typed = |arg: &Arg| {
        let long = arg.get_long().map(|long| format!("--{long}"));
        let short = arg.get_short().map(|short| format!("-{short}"));
        let mut words = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
        words.any(|word| {
            long.as_ref().is_some_and(|long| word.starts_with(long))
                || short.as_ref().is_some_and(|short| word.starts_with(short))
        })
    };
    let subcommand = env::args_os().skip(1).find_map(|word| command.find_subcommand(word))?;
    let found = subcommand.get_arguments().find(named).filter(|arg| !is_typed(arg))?;
    found.get_env().map(|name| name.to_string_lossy().into_owned())
}
