/** The Task Manager as a Lambda function: `lambda.handler`. */
import { lambdaHandler } from "./main.ts";

export const handler = await lambdaHandler();
