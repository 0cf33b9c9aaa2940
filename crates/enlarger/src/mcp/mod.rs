//! `enlarger mcp`: a server of the Model Context Protocol on standard input and output. Standard output carries the protocol only.

mod arguments;
mod lines;
mod tools;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Args;
use enlarger_pipeline::{Enlarger, EnlargerOptions, Progress, Watch};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CustomRequest, CustomResult, ErrorCode,
        Implementation, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities,
        ServerConfig,
    },
    service::{RequestContext, ServerInitializeError},
};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    dirs,
    machine::{MachineArgs, warn_of_threads},
    printer::{Hinted, hint_of, sentence},
    signals::Signals,
};
use lines::Lines;
use tools::{Done, Tool};

/// Offer enlarging to AI assistants, as an MCP server on standard input and output.
///
/// Assistants start it themselves: register the command `enlarger mcp`. Its tools are upscale, explain and list_models. It reads and
/// writes files with your permissions.
#[derive(Debug, Args)]
pub struct McpArgs {
    #[command(flatten)]
    machine: MachineArgs,
}

/// Runs the command.
pub fn run(args: McpArgs) -> anyhow::Result<ExitCode> {
    warn_of_threads(args.machine.threads);
    let enlarger = Enlarger::new(EnlargerOptions {
        threads: args.machine.threads,
        strip: None,
        models_dir: dirs::models_dir(),
        lanes: args.machine.lanes()?,
        model_dirs: Vec::new(),
        own_requests: false,
        generative: None,
        generator: None,
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let gone = CancellationToken::new();
    let turn: Arc<Mutex<()>> = Arc::default();
    let server = Server { enlarger: Arc::new(enlarger), turn: Arc::clone(&turn), gone: gone.clone() };
    let ended = runtime.block_on(async {
        let mut signals = Signals::listen().context("cannot listen for Ctrl-C")?;
        let lines = Lines::listen(gone.clone()).context("cannot read standard input")?;
        let served = async {
            match server.serve(lines).await {
                Ok(running) => drop(running.waiting().await),
                // An assistant that leaves before it has said anything is not an error.
                Err(ServerInitializeError::ConnectionClosed(_)) => {}
                Err(_) => {
                    let hint = "this command is for AI assistants, which begin with `initialize`";
                    return Err(Hinted::error("the session did not begin as the protocol has it", hint));
                }
            }
            Ok(ExitCode::SUCCESS)
        };
        let ended = tokio::select! {
            ended = served => ended,
            signal = signals.next() => Ok(ExitCode::from(signal.exit_code())),
        };
        // What still runs ends within a strip, and removes what it has written.
        gone.cancel();
        let _ = tokio::time::timeout(LAST_STRIP, turn.lock()).await;
        ended
    });
    runtime.shutdown_background();
    ended
}

/// How long a job that is cancelled may take to end.
const LAST_STRIP: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Server {
    enlarger: Arc<Enlarger>,
    /// A job uses the whole machine.
    turn: Arc<Mutex<()>>,
    /// Cancelled when the assistant has gone.
    gone: CancellationToken,
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let about = Implementation::new("enlarger", env!("CARGO_PKG_VERSION")).with_title("enlarger");
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build()).with_server_info(about).with_instructions(
            "Enlarges images up to 16x on this machine. Call explain first to learn how long a large image will take.",
        )
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(Tool::ALL.iter().map(|tool| tool.described()).collect()))
    }

    async fn call_tool(
        &self,
        asked: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let tool = Tool::named(&asked.name).ok_or_else(|| {
            let names: Vec<&str> = Tool::ALL.iter().map(|tool| tool.name()).collect();
            let message = format!("there is no tool named {:?}; hint: the tools are {}", asked.name, names.join(", "));
            ErrorData::invalid_params(message, None)
        })?;
        let arguments = asked.arguments.unwrap_or_default();
        let turn = tokio::select! {
            turn = self.turn.clone().lock_owned() => turn,
            () = context.ct.cancelled() => return Err(ErrorData::internal_error("cancelled", None)),
            () = self.gone.cancelled() => return Err(ErrorData::internal_error("the program is ending", None)),
        };
        let (tell, mut told) = watch::channel(0.0);
        let watching = Watching { tell, asked: context.ct.clone(), gone: self.gone.clone() };
        let enlarger = self.enlarger.clone();
        let mut work = tokio::task::spawn_blocking(move || {
            // Until the work has ended, whoever still waits for it.
            let _turn = turn;
            tool.run(&enlarger, arguments, &watching)
        });
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                Ok(()) = told.changed() => {
                    let fraction = *told.borrow_and_update();
                    if let Some(token) = context.meta.get_progress_token() {
                        let progress = ProgressNotificationParam::new(token, fraction).with_total(1.0);
                        let _ = context.peer.notify_progress(progress).await;
                    }
                }
            }
        };
        // What an assistant can do something about is an answer of the tool; the protocol's own errors are not shown to it.
        let result = match done {
            Ok(Ok(Done { text, data })) => {
                let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
                result.structured_content = Some(data);
                result
            }
            Ok(Err(error)) => {
                let hint = hint_of(&error).map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
                CallToolResult::error(vec![ContentBlock::text(format!("{}{hint}", sentence(&error)))])
            }
            Err(panicked) => return Err(ErrorData::internal_error(format!("internal error: {panicked}"), None)),
        };
        Ok(result.into())
    }

    /// The library takes a request of a method that it knows, but with other parameters, for one of a method that it does not know.
    async fn on_custom_request(
        &self,
        asked: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let hint = match asked.method.as_str() {
            "tools/call" => {
                r#"its params are {"name": "upscale", "arguments": {"image": "PATH"}}, with the name of a tool"#
            }
            "tools/list" => "it needs no params",
            "initialize" => "its params are protocolVersion, capabilities and clientInfo",
            method => return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, method.to_owned(), None)),
        };
        Err(ErrorData::invalid_params(format!("the params of {} have another shape; hint: {hint}", asked.method), None))
    }
}

/// Tells how far a job is, and stops it when it was cancelled or the assistant has gone.
struct Watching {
    tell: watch::Sender<f64>,
    asked: CancellationToken,
    gone: CancellationToken,
}

impl Watch for Watching {
    fn progress(&self, progress: &Progress) {
        self.tell.send_if_modified(|told| {
            // One per cent is enough to see that it goes on.
            let further = progress.fraction >= *told + 0.01;
            if further {
                *told = progress.fraction;
            }
            further
        });
    }

    fn cancelled(&self) -> bool {
        self.asked.is_cancelled() || self.gone.is_cancelled()
    }
}
