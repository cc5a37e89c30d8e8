//! The counts of all levels, under Kubernetes' names.

use mizzen_metrics::{Kind, Text};

use super::Flow;
use super::plan::Planned;
use super::tally::{REASONS, Tally};

impl Flow {
    /// Writes everything that is counted.
    pub fn write(&self, out: &mut Text) {
        let tallies = self.tallies.all();
        out.family("apiserver_flowcontrol_rejected_requests_total", Kind::Counter, "Requests refused, by reason.");
        for tally in &tallies {
            for (reason, count) in REASONS.iter().zip(&tally.rejected).filter(|(_, count)| count.get() > 0) {
                out.sample(
                    &[("priority_level", &tally.level), ("flow_schema", &tally.schema), ("reason", reason)],
                    count.get(),
                );
            }
        }
        type Number = fn(&Tally) -> i64;
        let numbers: [(&str, Kind, &str, Number); 4] = [
            ("apiserver_flowcontrol_dispatched_requests_total", Kind::Counter, "Requests let through.", |t| {
                t.dispatched.get() as i64
            }),
            ("apiserver_flowcontrol_current_inqueue_requests", Kind::Gauge, "Requests that wait.", |t| t.queued.get()),
            ("apiserver_flowcontrol_current_executing_requests", Kind::Gauge, "Requests that hold seats.", |t| {
                t.dispatched.get().saturating_sub(t.ended.get()) as i64
            }),
            ("apiserver_flowcontrol_current_executing_seats", Kind::Gauge, "Seats in use.", |t| t.seats.get()),
        ];
        for (name, kind, help, number) in numbers {
            out.family(name, kind, help);
            for tally in &tallies {
                out.sample(&labels(tally), number(tally));
            }
        }
        self.write_levels(out);
        type Bounded = fn(&Tally) -> &mizzen_metrics::Histogram;
        let histograms: [(&str, &str, Bounded); 4] = [
            ("apiserver_flowcontrol_request_wait_duration_seconds", "Time in a queue, of those that waited.", |t| {
                &t.waited
            }),
            ("apiserver_flowcontrol_request_execution_seconds", "Time that seats were held.", |t| &t.executed),
            ("apiserver_flowcontrol_request_queue_length_after_enqueue", "Requests in a queue that one joined.", |t| {
                &t.lengths
            }),
            ("apiserver_flowcontrol_work_estimated_seats", "Seats a request takes.", |t| &t.widths),
        ];
        for (name, help, histogram) in histograms {
            out.family(name, Kind::Histogram, help);
            for tally in tallies.iter().filter(|tally| tally.dispatched.get() > 0) {
                out.histogram(&labels(tally), histogram(tally));
            }
        }
    }

    fn write_levels(&self, out: &mut Text) {
        let plan = self.plan.load();
        type Number = fn(&Planned) -> u32;
        let numbers: [(&str, &str, Number); 4] = [
            ("apiserver_flowcontrol_nominal_limit_seats", "Seats of its own.", |p| p.bounds.nominal),
            ("apiserver_flowcontrol_lower_limit_seats", "Seats left when all is lent.", |p| p.bounds.least),
            ("apiserver_flowcontrol_upper_limit_seats", "Seats with all that may be borrowed.", |p| p.bounds.most),
            ("apiserver_flowcontrol_current_limit_seats", "Seats now.", |p| p.level.limit()),
        ];
        for (name, help, number) in numbers {
            out.family(name, Kind::Gauge, help);
            for planned in &plan.levels {
                out.sample(&[("priority_level", &planned.level.name)], number(planned));
            }
        }
    }
}

fn labels(tally: &Tally) -> [(&str, &str); 2] {
    [("priority_level", &tally.level), ("flow_schema", &tally.schema)]
}
