"""What the survey defines: identifiers, bricks, programs."""
