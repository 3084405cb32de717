//! One server's way to Redis: the real Redis store sends its commands here (`store::redis::transport::simulated`).
//!
//! On the way there and back the process gives way, and may die: the command is then executed later, or never.

use std::sync::{Arc, Weak};
use std::time::Instant;

use redis::Value;

use super::network::Fate;
use super::show::{command_text, reply_text};
use super::stock::STOCK;
use super::world::World;
use crate::clock::Clock;
use crate::store::redis::{Link, Undelivered};
use crate::sync::tasks;

pub(super) struct ServersLink {
    pub(super) world: Weak<World>,
    pub(super) me: usize,
}

impl std::fmt::Debug for ServersLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "link {}", self.me)
    }
}

/// A command that is on its way while its process may die.
struct OnItsWay<'a> {
    world: &'a Arc<World>,
    command: Option<&'a [Vec<u8>]>,
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        if let Some(command) = self.command
            && self.world.random.percent(50)
        {
            self.world.network.hold_up(command.to_vec());
        }
    }
}

impl ServersLink {
    fn name(&self) -> String {
        if self.me == STOCK { "stock".to_owned() } else { self.me.to_string() }
    }

    /// Others go on meanwhile, and the process may die.
    fn on_the_way(&self, world: &World) {
        tasks::give_way();
        world.may_die(self.me);
    }
}

impl Link for ServersLink {
    fn send(&self, command: &[Vec<u8>], deadline: Instant) -> Result<Value, Undelivered> {
        let world = &self.world.upgrade().expect("the simulation goes on");
        if tasks::is_dying() {
            return Err(Undelivered::Lost);
        }
        let mut on_its_way = OnItsWay { world, command: Some(command) };
        self.on_the_way(world);
        on_its_way.command = None;
        let execute = || {
            world.heard(self.me, command);
            let reply = world.execute(command);
            world.say(|| format!("  {}: {} → {}", self.name(), command_text(command), reply_text(&reply)));
            reply
        };
        let late = || {
            world.clock.sleep(deadline.saturating_duration_since(world.clock.now()));
            Err(Undelivered::TimedOut)
        };
        match world.network.fate(&world.random) {
            Fate::Answered => {
                let reply = execute();
                world.network.was_executed(command);
                self.on_the_way(world);
                if world.clock.now() >= deadline { late() } else { Ok(reply) }
            }
            Fate::Refused => Err(Undelivered::Refused),
            Fate::AnswerLost => {
                execute();
                self.on_the_way(world);
                Err(Undelivered::Lost)
            }
            Fate::Hangs(executed) => {
                if executed {
                    execute();
                }
                late()
            }
            Fate::Stuck => {
                world.say(|| format!("  {}: stuck: {}", self.name(), command_text(command)));
                world.network.hold_up(command.to_vec());
                Err(Undelivered::Lost)
            }
        }
    }
}

/// A way to Redis that always works, and at once.
pub(super) struct PerfectLink(pub(super) Arc<World>);

impl std::fmt::Debug for PerfectLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a perfect link")
    }
}

impl Link for PerfectLink {
    fn send(&self, command: &[Vec<u8>], _deadline: Instant) -> Result<Value, Undelivered> {
        Ok(self.0.redis.execute(command, self.0.clock.unix_micros()))
    }
}
