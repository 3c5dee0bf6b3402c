"""Scripts that a person launches, one a task; `python experiments/<script>.py --help` lists the settings."""
