using KernelScope.Cli;

return CommandLine.Run(args);
