"""From a video and a query to ranked moments, whoever scores them."""
