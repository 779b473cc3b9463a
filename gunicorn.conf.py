"""Configure plain gunicorn as `unify serve` does; gunicorn reads this file when it is started in this folder.

Its command line takes precedence: `gunicorn -b 0.0.0.0:8000 --threads 16 'app:create_app()'`.
"""

from utils.serve import for_gunicorn

globals().update(for_gunicorn())
