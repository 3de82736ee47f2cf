"""What the providers of one machine share: locks between OS processes, the clock of leases, the writer's thread."""
