using KernelScope.Cli;

WideFile.RunIfBetter();
return CommandLine.Run(args);
