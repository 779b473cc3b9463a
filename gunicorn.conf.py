"""Have plain gunicorn serve as `unify serve` does: gunicorn reads this file by itself, started in this folder.

What stands on its command line wins: `gunicorn -b 0.0.0.0:8000 --threads 16 'app:create_app()'`.
"""

from utils.serve import for_gunicorn

globals().update(for_gunicorn())
