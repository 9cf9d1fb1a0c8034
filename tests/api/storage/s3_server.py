"""A server of S3's protocol that checks signatures. Run with ``-m`` it is a process, which ends with its input."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BUCKET = "music"
REGION = "eu-central-1"
_ROOT = Path(__file__).resolve().parents[3]
_SETUP_REQUESTS = 7  # that `_set_up` sends, before anybody has an account
_RIGHTS = ["s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:ListBucket"]


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where it is, and who may do what: pairs of an access key's id and its secret.

    Attributes:
        owner: has the rights the platform needs and no others.
        reader: may read and list only.
    """

    endpoint: str
    owner: tuple[str, str]
    reader: tuple[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead to it, as its owner."""
        access_key_id, secret_access_key = self.owner
        return {
            "AWS_ENDPOINT": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": access_key_id,
            "AWS_SECRET_ACCESS_KEY": secret_access_key,
            "AWS_REGION": REGION,
        }


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """On a free port of the loopback interface, with an empty bucket."""
    command = [sys.executable, "-m", "tests.api.storage.s3_server"]
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(_SETUP_REQUESTS)}
    with subprocess.Popen(
        command, cwd=_ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield S3Server(**json.loads(process.stdout.readline()))
        process.stdin.close()


def _set_up(endpoint: str) -> S3Server:
    import boto3

    def client(service: str) -> Any:
        keys = {"aws_access_key_id": "nobody", "aws_secret_access_key": "yet"}
        return boto3.client(service, endpoint_url=endpoint, region_name=REGION, **keys)

    client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    iam = client("iam")
    return S3Server(endpoint, _user(iam, "owner", _RIGHTS), _user(iam, "reader", ["s3:GetObject", "s3:ListBucket"]))


def _user(iam: Any, name: str, rights: list[str]) -> tuple[str, str]:
    iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": rights, "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="audio", PolicyDocument=policy)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return made["AccessKeyId"], made["SecretAccessKey"]


def main() -> None:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # or it writes a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    sys.stdout.write(json.dumps(asdict(_set_up(f"http://{host}:{port}"))) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
