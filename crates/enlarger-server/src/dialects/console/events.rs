//! Server-sent events: the tasks of a caller, as they change.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{FromRef, State},
    response::sse::{Event, KeepAlive, Sse},
};
use enlarger_service::{deletions::Deletions, follow::Follow};
use enlarger_tasks::{ListQuery, Queue, Scope, Task, TaskState};
use futures_util::{Stream, stream};
use serde_json::json;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{detail::Details, tasks::find};
use crate::{
    app::App,
    client::Client,
    http::{AnyError, ApiResult, Path},
};

/// Changes are collected for this long, so that a stream has at most five events per second and task.
const GATHER: Duration = Duration::from_millis(200);
/// How often to look for changes by other processes.
const LOOK: Duration = Duration::from_secs(2);
/// Keep-alive interval, for clients and proxies.
const ALIVE: Duration = Duration::from_secs(10);
/// Events buffered for a slow client before its stream ends.
const WAITING: usize = 256;
/// Most live tasks that a new stream starts with.
const LIVE: u64 = 1000;

#[utoipa::path(
    get, path = "/api/events", operation_id = "followTasks", tag = "Console", summary = "Follow all tasks",
    responses(
        (status = 200, description = "Events: `task` with a task's details, first for each waiting or running task \
            and then for each change; `deleted` with `task_id`", content_type = "text/event-stream", body = String),
        AnyError,
    ),
)]
pub(crate) async fn all_events(
    client: Client,
    State(news): State<News>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    follow(news, client, None)
}

#[utoipa::path(
    get, path = "/api/tasks/{id}/events", operation_id = "followTask", tag = "Console", summary = "Follow one task until it ends",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "Events: `task` with the task's details, immediately and then for each change; \
            `deleted` with `task_id`. The stream ends when the task \
            ends", content_type = "text/event-stream", body = String),
        AnyError,
    ),
)]
pub(crate) async fn task_events(
    client: Client,
    State(news): State<News>,
    State(tasks): State<Follow>,
    Path(id): Path<String>,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let task = find(&tasks, &client.caller.scope(), &id).await?;
    Ok(follow(news, client, Some(task.id)))
}

/// The sources of events.
#[derive(Clone)]
pub(crate) struct News {
    queue: Arc<dyn Queue>,
    deletions: Deletions,
    details: Details,
    stop: CancellationToken,
}

impl FromRef<App> for News {
    fn from_ref(app: &App) -> Self {
        Self {
            queue: app.queue.clone(),
            deletions: app.deletions.clone(),
            details: Details::from_ref(app),
            stop: app.stop.clone(),
        }
    }
}

fn follow(news: News, client: Client, only: Option<Uuid>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (events, queue) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let (scope, base) = (client.caller.scope(), client.base);
        let teller = Teller { news, scope, base, only, events, told: HashMap::new() };
        teller.run().await;
    });
    let stream = stream::unfold(queue, async |mut queue| queue.recv().await.map(|event| (Ok(event), queue)));
    Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE))
}

/// Sends changes to one client.
struct Teller {
    news: News,
    scope: Scope,
    base: String,
    only: Option<Uuid>,
    events: mpsc::Sender<Event>,
    /// What was last sent about each task that has not ended.
    told: HashMap<Uuid, String>,
}

/// The client is gone, or has everything it asked for.
struct Over;

impl Teller {
    async fn run(mut self) {
        let _ = self.until_over().await;
    }

    async fn until_over(&mut self) -> Result<(), Over> {
        // Subscribed before the first look, so that no change is missed.
        let (mut changes, mut deleted) = (self.news.queue.changes(), self.news.deletions.subscribe());
        self.look().await?;
        let mut looked = Instant::now();
        let mut changed: Vec<Uuid> = Vec::new();
        let mut tick = interval(GATHER);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.news.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Err(Over),
                () = self.events.closed() => return Err(Over),
                change = changes.recv() => match change {
                    Ok(change) if self.only.is_none_or(|only| only == change.task) => {
                        if !changed.contains(&change.task) {
                            changed.push(change.task);
                        }
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => looked = Instant::now() - LOOK,
                    Err(RecvError::Closed) => return Err(Over),
                },
                gone = deleted.recv() => if let Ok((task, owner)) = gone {
                    let seen = match &self.scope {
                        Scope::All => true,
                        Scope::Owner(own) => owner.as_ref() == Some(own),
                    };
                    if seen && self.only.is_none_or(|only| only == task) {
                        self.send(Event::default().event("deleted").data(json!({ "task_id": task }).to_string()))?;
                    }
                },
                _ = tick.tick() => {
                    for task in std::mem::take(&mut changed) {
                        self.tell_id(task).await?;
                    }
                    if looked.elapsed() >= LOOK {
                        looked = Instant::now();
                        self.look().await?;
                    }
                }
            }
        }
    }

    /// Sends every task that has not ended, and those that have ended since the last look.
    async fn look(&mut self) -> Result<(), Over> {
        if let Some(only) = self.only {
            return self.tell_id(only).await;
        }
        let states = vec![TaskState::Created, TaskState::InProgress];
        let query = ListQuery { states, per_page: LIVE, ..ListQuery::default() };
        // If the store is not available, try again at the next look.
        let Ok(page) = self.news.queue.list(&query, &self.scope).await else { return Ok(()) };
        let ended: Vec<Uuid> =
            self.told.keys().filter(|id| !page.tasks.iter().any(|task| task.id == **id)).copied().collect();
        for task in &page.tasks {
            self.tell(task).await?;
        }
        for id in ended {
            self.tell_id(id).await?;
        }
        Ok(())
    }

    async fn tell_id(&mut self, id: Uuid) -> Result<(), Over> {
        match self.news.queue.get(id, &self.scope).await {
            Ok(Some(task)) => self.tell(&task).await,
            Ok(None) => {
                self.told.remove(&id);
                if self.only.is_some() { Err(Over) } else { Ok(()) }
            }
            Err(_) => Ok(()),
        }
    }

    async fn tell(&mut self, task: &Task) -> Result<(), Over> {
        let Ok(detail) = self.news.details.of(task, &self.base).await else { return Ok(()) };
        let Ok(data) = serde_json::to_string(&detail) else { return Ok(()) };
        if self.told.get(&task.id) == Some(&data) {
            return Ok(());
        }
        self.send(Event::default().event("task").data(&data))?;
        if task.state.is_terminal() {
            self.told.remove(&task.id);
            if self.only.is_some() {
                return Err(Over);
            }
        } else {
            self.told.insert(task.id, data);
        }
        Ok(())
    }

    /// A client that does not read is disconnected: it reconnects and gets the current state.
    fn send(&self, event: Event) -> Result<(), Over> {
        self.events.try_send(event).map_err(|_| Over)
    }
}
