-- What is read of a single event, in the order of `event_of`.
events.event_id,
events.site_id,
events.event_type,
events.occurred_at,
events.received_at,
events.user_id,
events.visitor_id,
events.session_id,
events.url,
events.path,
events.referrer,
events.properties,
events.arrival
