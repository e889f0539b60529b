# docker build -t atbptt . && docker run --rm -v "$PWD/outputs:/runs/outputs" atbptt launch -m truncation=adaptive lr=1,10
# For a GPU add --gpus all: torch from the usual index brings CUDA, some GB.
FROM python:3.11-slim
WORKDIR /clone
COPY . .
RUN pip install --no-cache-dir -c constraints.txt ".[experiments]"
WORKDIR /runs
ENTRYPOINT ["atbptt"]
