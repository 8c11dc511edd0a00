"""Where the pipeline and the endpoint run. The only code that knows kfp.local, docker, kfp.Client and Kubernetes."""
