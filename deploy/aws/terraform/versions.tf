terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # The first version here that is known to have aws_lambda_permission.invoked_via_function_url.
      version = ">= 6.42, < 7.0"
    }
  }
}
